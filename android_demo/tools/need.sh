#!/bin/sh
# need.sh JOB COMMAND=PACKAGE...: whether all commands are there, and a JDK new enough; if not, one line says what to install.
job=$1
shift
commands= packages=
for pair in "$@"; do
    name=${pair%%=*}
    if ! command -v "$name" >/dev/null 2>&1; then
        commands="$commands $name"
        packages="$packages ${pair#*=}"
    elif [ "$name" = javac ]; then
        version=$(javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p')
        if [ "${version:-0}" -lt 17 ]; then
            commands="$commands javac-17"
            packages="$packages ${pair#*=}"
        fi
    fi
done
[ -z "$commands" ] && exit 0
echo "$job is skipped, for this machine lacks$commands: apt-get install$packages"
exit 1
