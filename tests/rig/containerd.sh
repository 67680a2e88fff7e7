#!/bin/sh
# Makes the file systems of a rig and runs a PID namespace in it. First stage: what the rig's "node" sees, with the machine's
# own /proc, so that a controller can be run in it as a process of the machine. Second stage: the runtime's PID namespace,
# which ends with all that is in it when its first process is killed. FOLDER/run is a shared mount that the machine, "node" and
# runtime have in common, to the latter two it is /run: what the runtime mounts in /run/netns appears to all, as on a node.
#   sh containerd.sh FOLDER
set -eu
if [ "${2:-}" != inside ]; then
  # Nothing but FOLDER/run is to be in common with the machine, neither what is mounted here nor what is unmounted.
  while read -r _ _ _ _ target _; do
    [ "$target" = "$1/run" ] || mount --make-private "$(printf '%b' "$target")" 2>/dev/null || true # some lie below others
  done </proc/self/mountinfo
  umount -lR /run/netns 2>/dev/null || true # a copy of the machine's: it would keep deleted namespaces alive
  mount --bind "$1/run" /run
  mkdir -p /run/netns /run/containerd /var/lib/cni
  mount -t tmpfs tmpfs /var/lib/cni
  ip link set lo up
  exec unshare --pid --fork --kill-child -- unshare --mount --propagation unchanged -- sh "$0" "$1" inside
fi
mount -t proc proc /proc
echo ready
while :; do
  sleep 3600 & # orphans are reaped while waiting
  wait $!
done
