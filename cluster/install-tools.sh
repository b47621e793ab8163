#!/bin/sh
# What `ray up` needs on this machine, and what `make test-cluster` needs to make two hosts of it (Debian and Ubuntu).
#   openssh-client rsync   to launch a cluster
#   openssh-server iproute2 util-linux   to play one: an SSH server, network namespaces, mount and process namespaces
# Run as root. Installing the SSH server must not open this machine: it is stopped and not started at boot.
set -eu
export DEBIAN_FRONTEND=noninteractive
had_sshd=$(command -v sshd || test -x /usr/sbin/sshd && echo yes || true)
apt-get update -qq
apt-get install -y -qq --no-install-recommends openssh-client rsync openssh-server iproute2 util-linux
if [ -z "$had_sshd" ] && [ -d /run/systemd/system ]; then
    systemctl disable --now ssh.service ssh.socket 2>/dev/null || true
fi
