# packet-capture: the controller as one program, with tcpdump and the few tools that reading captures needs.
#
#   docker build -t registry.example/packet-capture:0.1.0 .
#
# The base images are arguments, so that the same file builds from a mirror, or where no registry can be reached
# (`make image` makes them from Debian's packages then).
#
# Debian 12, because its tcpdump 4.99.3 is the one whose signals, privileges and rotation were measured.
#
# Both are pinned by the digest of their index of all architectures: renovate.json has them updated. The digests were read in
# public Dockerfiles that agree, since no registry can be reached where this was written; the release workflow has the registry
# confirm them before it builds. Not pinned: the versions of Debian's packages, which tools/image-root takes from Debian as
# they are on the day (signed by Debian; /var/lib/dpkg/status.d in the image says which).
ARG DENO_IMAGE=denoland/deno:2.9.6@sha256:2014dc167ece617ef7e7ba40631ac2234c59e75ce693e7cc2dc2602b3c87859d
ARG DEBIAN_IMAGE=debian:bookworm-20261005-slim@sha256:7c7b2c966bc9ee8cedfeef67e0e279108992c77681fa595db4a9d65c06ccc587

# 1. The program: one bundled file of src/, made into one executable.
FROM ${DENO_IMAGE} AS program
# source: bundle src/ here. context: take dist/packet-capture.cjs as it is, built before with the same tools/bundle.ts.
ARG BUNDLE=source
# compile: `deno compile`. deno: the deno executable beside the bundle. auto: the second only if the first cannot be had.
ARG RUNTIME=auto
# For releases: 1 takes only packages of deno.jsr.lock (tools/deno), required only a runtime of tools/denort.sha256.
ARG PACKET_CAPTURE_FROZEN=""
ARG DENORT_CHECK=""
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
