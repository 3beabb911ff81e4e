#!/usr/bin/env bash
# Makes ../vendor.js and ../uplot.css from the pinned packages, in a scratch folder. See ../README.md.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
cp "$here"/{package.json,package-lock.json,.npmrc,entry.js,language.js} "$scratch"
cd "$scratch"
npm ci --silent --ignore-scripts
./node_modules/.bin/esbuild entry.js --bundle --format=esm --minify --target=es2022 \
  --legal-comments=none --charset=utf8 --define:process.env.NODE_ENV='"production"' \
  --outfile="$here/../vendor.js"
cp node_modules/uplot/dist/uPlot.min.css "$here/../uplot.css"
for name in preact htm @preact/signals @preact/signals-core uplot @noble/hashes @noble/secp256k1; do
  version="$(node -p "require('./node_modules/$name/package.json').version")"
  printf -- '--- %s %s\n\n' "$name" "$version"
  cat "node_modules/$name/LICENSE"
  printf '\n'
done >"$here/../LICENSES.txt"
cd "$here/.."
sha256sum vendor.js uplot.css LICENSES.txt >SHA256SUMS
