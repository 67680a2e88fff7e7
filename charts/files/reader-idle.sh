#!/bin/sh
# Idles as what the container reader is started with, and ends a process in it that nobody reads from any more.
#
#   sh -c SCRIPT reader-idle SECONDS
#
# When the client of `kubectl cp` or `kubectl exec` has gone, the runtime leaves the process alone and reads no more from its standard output, a pipe.
# The process waits for ever to write then. So one that waits to write into a pipe, and has not written a byte between two looks, is ended.
# What only has nothing to say, such as a shell, a quiet stream or a command with a terminal, waits elsewhere.
before=
while :; do
  now=
  for dir in /proc/[0-9]*; do
    # Any process may end meanwhile. wchan is the kernel's function that it waits in, or 0; it has no line's end.
    where='' stat='' written=''
    {
      read -r where <"$dir/wchan"
      case $where in *pipe_write | *pipe_wait_writable) ;; *) continue ;; esac
      read -r stat <"$dir/stat"
      while read -r key value; do [ "$key" = wchar: ] && written=$value; done <"$dir/io"
    } 2>/dev/null
    # The 22nd field is when it was started, which a number that was given out again does not share. The name before may hold blanks.
    # shellcheck disable=SC2086 # words are wanted
    set -- "$1" ${stat##*) }
    process="$dir ${21-} $written;"
    case $before in *"$process"*) kill "${dir#/proc/}" ;; esac
    now=$now$process
  done
  before=$now
  sleep "$1"
done
