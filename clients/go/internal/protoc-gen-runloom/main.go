// Command protoc-gen-runloom generates the plain types and methods of the clients in Go and Java from proto/: messages without the Json wrapper, and a
// method for each unary RPC. Run by clients/generate.sh, with the option lang=go or lang=java.
package main

import (
	"flag"
	"fmt"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	var flags flag.FlagSet
	lang := flags.String("lang", "go", "go or java")
	protogen.Options{ParamFunc: flags.Set}.Run(func(plugin *protogen.Plugin) error {
		plugin.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
		api := newAPI(plugin)
		switch *lang {
		case "go":
			api.generateGo(plugin)
		case "java":
			api.generateJava(plugin)
		default:
			return fmt.Errorf("lang=%s: expected go or java", *lang)
		}
		return nil
	})
}
