#!/bin/sh
# The environment that a branch of Git is brought to, for CI: environment-of-branch.sh BRANCH
set -eu
case "${1:?which branch?}" in
    main) echo production ;;
    staging | release/*) echo staging ;;
    *) echo dev ;;
esac
