#!/usr/bin/env bash
# Generates the code that is committed: that of the client in Go, and the records and methods of the client in Java. The rest is generated when a client is built.
#
#   clients/generate.sh          generate, into clients/go and clients/java/src/generated
#   clients/generate.sh --check  lint, format and compatibility check of proto/; the committed code is that of proto/; Go's compiles
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
  rm -rf "$out/go" "$out/java"
  mkdir -p "$out/go" "$out/java"
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
    rm -rf clients/java/src/generated/java
    mkdir -p clients/java/src/generated
    cp -R target/clients/java clients/java/src/generated/java
    say "clients/go and clients/java/src/generated are new"
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
    say "the committed code is that of proto/"
    diff -r "$out/go/runloom" clients/go/runloom
    for file in "$out"/go/*.go; do diff "$file" "clients/go/${file##*/}"; done
    diff -r "$out/java" clients/java/src/generated/java
    say "go build and vet"
    (cd clients/go && go build ./... && go vet ./...)
    say "proto/ passes the lint, and the generated code is up to date"
    ;;
  *)
    echo "usage: clients/generate.sh [--check]" >&2
    exit 2
    ;;
esac
