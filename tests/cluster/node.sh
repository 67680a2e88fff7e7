#!/bin/sh
# First process of a worker node, in its own PID, mount, network and host-name namespaces. It makes the node's own /run
# and /var, says so by writing "ready" to its first argument's folder, and then reaps orphans.
#   sh node.sh NODE_FOLDER NODE_NAME
set -eu
mount -t proc proc /proc
umount -lR /run/netns 2>/dev/null || true # a copy of the host's: it would keep deleted namespaces alive
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/containerd
mkdir -p "$1/var" "$1/var.work" "$1/kubelet"
mount -t overlay -o "lowerdir=/var,upperdir=$1/var,workdir=$1/var.work" overlay /var # two nodes, one machine: no hostPath is shared
mkdir -p /var/lib/kubelet /var/log
mount --bind "$1/kubelet" /var/lib/kubelet
mount --make-rshared / # as on real nodes: HostToContainer mounts see what appears later
hostname "$2"
echo ready >"$1/ready"
while :; do
  sleep 3600 &
  wait $!
done
