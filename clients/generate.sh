#!/usr/bin/env bash
# Generates the clients in other languages from proto/. Go's code is committed, so that the module can be used by path; that of TypeScript is not.
#
#   clients/generate.sh          generate, into clients/go and target/clients/typescript
#   clients/generate.sh --check  lint, format and compatibility check of proto/; Go's code is as committed; generate into a temporary folder, compile there
#
# Needs Go, and Node with npm; installs the rest into target/tools.
set -euo pipefail

BUF=v1.72.0
PROTOC_GEN_GO=v1.36.11
PROTOC_GEN_GO_GRPC=v1.6.1

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$PWD/target/tools
typescript=$PWD/clients/typescript
export PATH="$tools/bin:$tools/typescript/node_modules/.bin:$PATH"

say() { printf '== %s\n' "$*"; }

# Installs a tool in Go, unless this version is installed.
install_go() {
  local package=$1 version=$2 mark
  mark="$tools/bin/.$(basename "$package")-$version"
  [[ -e $mark ]] && return
  say "installing $package $version"
  GOBIN="$tools/bin" go install "$package@$version"
  touch "$mark"
}

# Installs the generator and the compiler for TypeScript from the lock file, unless they are installed.
install_typescript() {
  local home=$tools/typescript
  cmp -s "$typescript/package-lock.json" "$home/package-lock.json" && [[ -e $home/.installed ]] && return
  say "installing the tools for TypeScript"
  rm -rf "$home"
  mkdir -p "$home"
  cp "$typescript"/{package.json,package-lock.json} "$home/"
  (cd "$home" && npm ci --no-audit --no-fund --loglevel=error)
  touch "$home/.installed"
}

# Generates every client into a folder.
generate() {
  local out=$1
  rm -rf "$out/go" "$out/typescript"
  mkdir -p "$out/go" "$out/typescript"
  (cd clients/go && go build -o "$tools/bin/protoc-gen-runloom" ./internal/protoc-gen-runloom)
  buf generate --output "$out"
  gofmt -w "$out/go"
  cp "$typescript"/{package.json,package-lock.json,tsconfig.json} "$out/typescript/"
}

mkdir -p "$tools/bin"
install_go github.com/bufbuild/buf/cmd/buf "$BUF"
install_go google.golang.org/protobuf/cmd/protoc-gen-go "$PROTOC_GEN_GO"
install_go google.golang.org/grpc/cmd/protoc-gen-go-grpc "$PROTOC_GEN_GO_GRPC"
install_typescript

case ${1-} in
  '')
    generate target/clients
    rm -rf clients/go/runloom
    cp -R target/clients/go/. clients/go/
    say "clients/go and target/clients/typescript are new"
    ;;
  --check)
    say "buf lint"
    buf lint
    say "buf format"
    buf format --diff --exit-code
    if tag=$(git describe --tags --abbrev=0 2>/dev/null); then
      say "buf breaking, against $tag"
      buf breaking --against ".git#tag=$tag"
    fi
    out=$(mktemp -d "$PWD/target/clients-check.XXXXXX")
    trap 'rm -rf "$out"' EXIT
    generate "$out"
    say "Go: the committed code is that of proto/"
    diff -r "$out/go/runloom" clients/go/runloom
    for file in "$out"/go/*.go; do diff "$file" "clients/go/${file##*/}"; done
    say "go build and vet"
    (cd clients/go && go build ./... && go vet ./...)
    say "tsc"
    ln -s "$tools/typescript/node_modules" "$out/typescript/node_modules"
    (cd "$out/typescript" && tsc --noEmit)
    say "proto/ passes the lint, and its clients compile"
    ;;
  *)
    echo "usage: clients/generate.sh [--check]" >&2
    exit 2
    ;;
esac
