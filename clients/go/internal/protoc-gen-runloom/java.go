package main

import "google.golang.org/protobuf/compiler/protogen"

func (a *api) generateJava(*protogen.Plugin) {}
