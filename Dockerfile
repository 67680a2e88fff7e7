# packet-capture: the controller as one program, with tcpdump and the few tools that reading captures needs.
#
#   docker build -t registry.example/packet-capture:0.1.0 .
#
# The base images are arguments, so that the same file builds from a mirror, or where no registry can be reached
# (`make image` makes them from Debian's packages then).
ARG DENO_IMAGE=denoland/deno:2.9.6
ARG DEBIAN_IMAGE=debian:bookworm-slim

# 1. The program: one bundled file of src/, made into one executable.
FROM ${DENO_IMAGE} AS program
# source: bundle src/ here. context: take dist/packet-capture.cjs as it is, built before with the same tools/bundle.ts.
ARG BUNDLE=source
# compile: `deno compile`. deno: the deno executable beside the bundle. auto: the second only if the first cannot be had.
ARG RUNTIME=auto
WORKDIR /build
COPY . .
RUN bash tools/image-program /out

# 2. What else is in the image, picked out of Debian file by file.
FROM ${DEBIAN_IMAGE} AS root
COPY tools/image-root /tmp/
RUN bash /tmp/image-root /out
COPY --from=program /out/ /out/usr/local/
# Shared libraries of what came from the first stage, and a look whether every program finds its own. All files get this time.
ARG SOURCE_DATE_EPOCH=0
RUN bash /tmp/image-root /out --check

# 3. The image.
FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="packet-capture" \
      org.opencontainers.image.description="On-demand tcpdump for Kubernetes pods, asked for by an annotation" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY --from=root /out/ /
# tini reaps what a killed controller leaves behind.
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/bin/packet-capture"]
