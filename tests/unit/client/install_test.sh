#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install_test.sh BUILD EXAMPLES CC LIBDIR: what is installed is enough to build the examples.
set -eu
build=$1 examples=$2 cc=$3 libdir=$4
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

for component in library development; do
  cmake --install "$build" --prefix "$prefix/usr" --component $component >"$prefix/log" ||
    { cat "$prefix/log"; exit 1; }
done

export PKG_CONFIG_PATH="$prefix/usr/$libdir/pkgconfig" LD_LIBRARY_PATH="$prefix/usr/$libdir"
flags=$(pkg-config --define-variable=prefix="$prefix/usr" --cflags --libs libhandshake)
# shellcheck disable=SC2086
"$cc" -std=gnu11 -Wall -Wextra -pedantic -Werror "$examples/connect.c" -o "$prefix/connect" $flags
# Without arguments it says how it is used and that it was given none.
code=0
"$prefix/connect" 2>"$prefix/usage" || code=$?
[ $code -eq 2 ] && grep -q usage "$prefix/usage"

cmake -S "$examples" -B "$prefix/build" -DCMAKE_PREFIX_PATH="$prefix/usr" >"$prefix/log" &&
  cmake --build "$prefix/build" >>"$prefix/log" || { cat "$prefix/log"; exit 1; }
"$prefix/build/example_connect" 2>"$prefix/usage" || code=$?
[ $code -eq 2 ] && grep -q usage "$prefix/usage"
[ "$(ls "$prefix/usr/include/handshake" | tr '\n' ' ')" = "handshake.h handshake.hpp tagset.hpp " ]
