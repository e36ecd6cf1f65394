#!/usr/bin/env bash
# Generates the code of the client in Go, which is committed. The other clients generate theirs when they are built.
#
#   clients/generate.sh          generate, into clients/go
#   clients/generate.sh --check  lint, format and compatibility check of proto/; Go's code is that of proto/, and compiles
#
# Needs Go; installs the rest into target/tools.
set -euo pipefail

BUF=v1.72.0
PROTOC_GEN_GO=v1.36.11
PROTOC_GEN_GO_GRPC=v1.6.1

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$PWD/target/tools
export PATH="$tools/bin:$PATH"

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

# Generates into a folder.
generate() {
  local out=$1
  rm -rf "$out/go"
  mkdir -p "$out/go"
  (cd clients/go && go build -o "$tools/bin/protoc-gen-runloom" ./internal/protoc-gen-runloom)
  buf generate --output "$out"
  gofmt -w "$out/go"
}

mkdir -p "$tools/bin"
install_go github.com/bufbuild/buf/cmd/buf "$BUF"
install_go google.golang.org/protobuf/cmd/protoc-gen-go "$PROTOC_GEN_GO"
install_go google.golang.org/grpc/cmd/protoc-gen-go-grpc "$PROTOC_GEN_GO_GRPC"

case ${1-} in
  '')
    generate target/clients
    rm -rf clients/go/runloom
    cp -R target/clients/go/. clients/go/
    say "clients/go is new"
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
    say "proto/ passes the lint, and clients/go is up to date"
    ;;
  *)
    echo "usage: clients/generate.sh [--check]" >&2
    exit 2
    ;;
esac
