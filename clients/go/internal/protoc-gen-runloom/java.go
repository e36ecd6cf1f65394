package main

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// generateJava writes a record for each message, an enum for each enum, and the methods of the client.
func (a *api) generateJava(plugin *protogen.Plugin) {
	file := func(name string, imports ...string) *protogen.GeneratedFile {
		g := plugin.NewGeneratedFile("dev/runloom/"+name+".java", "")
		g.P(header)
		g.P("package dev.runloom;")
		g.P()
		for _, path := range imports {
			g.P("import ", path, ";")
		}
		if len(imports) > 0 {
			g.P()
		}
		return g
	}
	for _, m := range a.messages {
		javaRecord(file(javaType(m.Message), "java.time.Duration", "java.time.Instant", "java.util.List", "java.util.Map"), m)
	}
	for _, enum := range append(a.enums, a.reasons) {
		javaEnum(file(javaEnumName(enum)), enum)
	}
	var payloads []string
	for _, m := range a.messages {
		if m.payload != nil {
			for _, field := range m.payload.Fields {
				payloads = append(payloads, javaType(field.Message))
			}
		}
	}
	g := file("Payload")
	g.P("/** The payload of a part: one of the records that implement it. */")
	g.P("public sealed interface Payload permits ", strings.Join(payloads, ", "), " {}")
	g = file("Methods", "java.util.function.Consumer")
	g.P("/** A method for each unary RPC. Part of {@link Client}. */")
	g.P("abstract class Methods extends Calls {")
	for _, r := range a.rpcs {
		javaMethod(g, r)
	}
	g.P("}")
}

func javaType(m *protogen.Message) string {
	if name := typeName(m); name != "Thread" {
		return name
	}
	// Not java.lang.Thread.
	return "ThreadInfo"
}

func javaEnumName(enum *protogen.Enum) string {
	if enum.Desc.Name() == "ErrorReason" {
		return "Reason"
	}
	return string(enum.Desc.Name())
}

func javaDoc(g *protogen.GeneratedFile, indent string, lines []string) {
	if len(lines) == 0 {
		return
	}
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "*/", "*&#47;", "@", "&#64;")
	for i, line := range lines {
		begin := " * "
		if i == 0 {
			begin = "/** "
		}
		g.P(strings.TrimRight(indent+begin+escape.Replace(line), " "))
	}
	g.P(indent + " */")
}

// javaName is the name of a field in lower camel case.
func javaName(field protoreflect.Name) string {
	name := camelPlain(string(field))
	name = strings.ToLower(name[:1]) + name[1:]
	switch name {
	case "goto", "default", "try", "case", "new", "class", "wait", "notify", "finalize":
		return name + "_"
	}
	return name
}

// camelPlain is camel without the initialisms of Go.
func camelPlain(snake string) string {
	var out strings.Builder
	for _, word := range strings.Split(snake, "_") {
		if word != "" {
			out.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return out.String()
}

func javaElement(field *protogen.Field, boxed bool) string {
	switch {
	case is(field, jsonType):
		return "Object"
	case is(field, timestampType):
		return "Instant"
	case is(field, durationType):
		return "Duration"
	case is(field, statusType):
		return "RunloomException"
	case is(field, maskType):
		return "List<String>"
	case field.Message != nil:
		return javaType(field.Message)
	case field.Enum != nil:
		return javaEnumName(field.Enum)
	}
	boxed = boxed || field.Desc.HasOptionalKeyword()
	pick := func(plain, box string) string {
		if boxed {
			return box
		}
		return plain
	}
	switch field.Desc.Kind() {
	case protoreflect.BoolKind:
		return pick("boolean", "Boolean")
	case protoreflect.Int32Kind, protoreflect.Uint32Kind:
		return pick("int", "Integer")
	case protoreflect.Int64Kind, protoreflect.Uint64Kind:
		return pick("long", "Long")
	case protoreflect.BytesKind:
		return "byte[]"
	default:
		return "String"
	}
}

func javaFieldType(field *protogen.Field) string {
	switch {
	case field.Desc.IsMap():
		return "Map<String, " + javaElement(field.Message.Fields[1], true) + ">"
	case field.Desc.IsList():
		return "List<" + javaElement(field, true) + ">"
	default:
		return javaElement(field, false)
	}
}

func javaRecord(g *protogen.GeneratedFile, m *message) {
	name := javaType(m.Message)
	lines := comment(m.Comments)
	for _, field := range m.fields {
		text := comment(field.Comments)
		if len(text) > 0 {
			lines = append(lines, "\x00@param "+javaName(field.Desc.Name())+" "+text[0])
			lines = append(lines, text[1:]...)
		}
	}
	if m.payload != nil {
		lines = append(lines, "\x00@param payload the payload; null for one that this client does not know")
	}
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "*/", "*&#47;", "@", "&#64;")
	g.P("/**")
	for _, line := range lines {
		if rest, ok := strings.CutPrefix(line, "\x00@"); ok {
			g.P(" * @", escape.Replace(rest))
		} else {
			g.P(strings.TrimRight(" * "+escape.Replace(line), " "))
		}
	}
	g.P(" */")
	var components []string
	for _, field := range m.fields {
		components = append(components, javaFieldType(field)+" "+javaName(field.Desc.Name()))
	}
	if m.payload != nil {
		components = append(components, "Payload payload")
	}
	implements := ""
	if isPayload(m) {
		implements = " implements Payload"
	}
	g.P("public record ", name, "(", strings.Join(components, ", "), ")", implements, " {")
	if m.received {
		javaFrom(g, m, name)
	}
	if m.sent {
		javaTo(g, m, name)
		javaBuilder(g, m, name)
	}
	g.P("}")
}

func isPayload(m *message) bool {
	switch m.name {
	case "Metadata", "Event", "Update", "Value", "MessageChunk", "Custom", "Task", "Checkpoint", "Progress", "End":
		return true
	}
	return false
}

func v1(m *protogen.Message) string { return "dev.runloom.v1." + string(m.Desc.Name()) }

func javaFrom(g *protogen.GeneratedFile, m *message, name string) {
	var values []string
	for _, field := range m.fields {
		values = append(values, javaFromValue(field))
	}
	if m.payload != nil {
		values = append(values, "payloadOf(p)")
	}
	g.P("  static ", name, " from(", v1(m.Message), " p) {")
	g.P("    return new ", name, "(", strings.Join(values, ", "), ");")
	g.P("  }")
	if m.payload == nil {
		return
	}
	g.P()
	g.P("  private static Payload payloadOf(", v1(m.Message), " p) {")
	g.P("    return switch (p.getPayloadCase()) {")
	for _, field := range m.payload.Fields {
		upper := strings.ToUpper(string(field.Desc.Name()))
		g.P("      case ", upper, " -> ", javaType(field.Message), ".from(p.get", camelPlain(string(field.Desc.Name())), "());")
	}
	g.P("      default -> null;")
	g.P("    };")
	g.P("  }")
}

func javaFromValue(field *protogen.Field) string {
	name := camelPlain(string(field.Desc.Name()))
	element := field
	if field.Desc.IsMap() {
		element = field.Message.Fields[1]
	}
	convert := ""
	switch {
	case is(element, jsonType):
		convert = "Json::from"
	case is(element, timestampType):
		convert = "Values::instant"
	case is(element, durationType):
		convert = "Values::duration"
	case is(element, statusType):
		convert = "RunloomException::from"
	case is(element, maskType):
		return "p.get" + name + "().getPathsList()"
	case element.Message != nil:
		convert = javaType(element.Message) + "::from"
	case element.Enum != nil:
		convert = javaEnumName(element.Enum) + "::from"
	}
	switch {
	case field.Desc.IsMap() && convert == "":
		return "p.get" + name + "Map()"
	case field.Desc.IsMap():
		return "Values.map(p.get" + name + "Map(), " + convert + ")"
	case field.Desc.IsList() && convert == "":
		return "List.copyOf(p.get" + name + "List())"
	case field.Desc.IsList():
		return "Values.list(p.get" + name + "List(), " + convert + ")"
	}
	get := "p.get" + name + "()"
	if field.Desc.Kind() == protoreflect.BytesKind {
		get += ".toByteArray()"
	}
	if convert != "" {
		get = strings.Replace(convert, "::", ".", 1) + "(" + get + ")"
	}
	if field.Message != nil || field.Desc.HasOptionalKeyword() {
		return "p.has" + name + "() ? " + get + " : null"
	}
	return get
}

func javaTo(g *protogen.GeneratedFile, m *message, name string) {
	g.P()
	g.P("  ", v1(m.Message), " toProto() {")
	g.P("    var p = ", v1(m.Message), ".newBuilder();")
	for _, field := range m.fields {
		javaToValue(g, field)
	}
	g.P("    return p.build();")
	g.P("  }")
}

func javaToValue(g *protogen.GeneratedFile, field *protogen.Field) {
	name, value := camelPlain(string(field.Desc.Name())), javaName(field.Desc.Name())
	element := field
	if field.Desc.IsMap() {
		element = field.Message.Fields[1]
	}
	convert := func(value string) string {
		switch {
		case is(element, jsonType):
			return fmt.Sprintf("Json.to(%q, %s)", field.Desc.Name(), value)
		case is(element, timestampType), is(element, durationType), is(element, maskType):
			return "Values.proto(" + value + ")"
		case element.Message != nil, element.Enum != nil:
			return value + ".toProto()"
		case element.Desc.Kind() == protoreflect.BytesKind:
			return "com.google.protobuf.ByteString.copyFrom(" + value + ")"
		}
		return value
	}
	switch {
	case is(field, statusType):
	case field.Desc.IsMap():
		g.P("    if (", value, " != null) ", value, ".forEach((key, item) -> p.put", name, "(key, ", convert("item"), "));")
	case field.Desc.IsList():
		g.P("    if (", value, " != null) for (var item : ", value, ") p.add", name, "(", convert("item"), ");")
	case inOneof(field):
		g.P("    if (", value, " != null", javaNotEmpty(field, value), ") {")
		oneof := camelPlain(string(field.Oneof.Desc.Name()))
		g.P("      Values.one(p.get", oneof, "Case().getNumber(), \"", field.Oneof.Desc.Name(), "\");")
		g.P("      p.set", name, "(", convert(value), ");")
		g.P("    }")
	case field.Message != nil, field.Enum != nil, field.Desc.HasOptionalKeyword(), field.Desc.Kind() == protoreflect.StringKind, field.Desc.Kind() == protoreflect.BytesKind:
		g.P("    if (", value, " != null) p.set", name, "(", convert(value), ");")
	default:
		g.P("    p.set", name, "(", convert(value), ");")
	}
}

func javaNotEmpty(field *protogen.Field, value string) string {
	if field.Desc.Kind() == protoreflect.StringKind {
		return " && !" + value + ".isEmpty()"
	}
	return ""
}

func javaBuilder(g *protogen.GeneratedFile, m *message, name string) {
	var values []string
	g.P()
	g.P("  /** Starts a message whose fields are absent. */")
	g.P("  public static Builder builder() {")
	g.P("    return new Builder();")
	g.P("  }")
	g.P()
	g.P("  /** Builds a {@link ", name, "}. */")
	g.P("  public static final class Builder {")
	for _, field := range m.fields {
		g.P("    private ", javaFieldType(field), " ", javaName(field.Desc.Name()), ";")
		values = append(values, javaName(field.Desc.Name()))
	}
	for _, field := range m.fields {
		g.P()
		javaDoc(g, "    ", comment(field.Comments))
		value := javaName(field.Desc.Name())
		g.P("    public Builder ", value, "(", javaFieldType(field), " ", value, ") {")
		g.P("      this.", value, " = ", value, ";")
		g.P("      return this;")
		g.P("    }")
		if field.Desc.IsList() && !is(field, jsonType) && field.Desc.Kind() != protoreflect.BytesKind {
			g.P()
			javaDoc(g, "    ", comment(field.Comments))
			g.P("    public Builder ", value, "(", javaElement(field, true), "... ", value, ") {")
			g.P("      return ", value, "(List.of(", value, "));")
			g.P("    }")
		}
		if field.Message != nil && !field.Desc.IsMap() && !field.Desc.IsList() && strings.HasPrefix(string(field.Message.Desc.FullName()), "runloom.v1.") && !is(field, jsonType) {
			of := javaType(field.Message)
			g.P()
			javaDoc(g, "    ", comment(field.Comments))
			g.P("    public Builder ", value, "(java.util.function.Consumer<", of, ".Builder> ", value, ") {")
			g.P("      var builder = ", of, ".builder();")
			g.P("      ", value, ".accept(builder);")
			g.P("      return ", value, "(builder.build());")
			g.P("    }")
		}
	}
	if m.payload != nil {
		values = append(values, "null")
	}
	g.P()
	g.P("    public ", name, " build() {")
	g.P("      return new ", name, "(", strings.Join(values, ", "), ");")
	g.P("    }")
	g.P("  }")
}

func javaEnum(g *protogen.GeneratedFile, enum *protogen.Enum) {
	name := javaEnumName(enum)
	javaDoc(g, "", comment(enum.Comments))
	g.P("public enum ", name, " {")
	for i, value := range enum.Values {
		javaDoc(g, "  ", comment(value.Comments))
		end := ","
		if i == len(enum.Values)-1 {
			end = ";"
		}
		g.P("  ", valueName(enum, value), end)
	}
	full := "dev.runloom.v1." + string(enum.Desc.Name())
	prefix := strings.TrimSuffix(string(enum.Values[0].Desc.Name()), valueName(enum, enum.Values[0]))
	g.P()
	g.P("  static ", name, " from(", full, " p) {")
	g.P("    return p == ", full, ".UNRECOGNIZED ? UNSPECIFIED : valueOf(p.name().substring(", fmt.Sprint(len(prefix)), "));")
	g.P("  }")
	g.P()
	g.P("  ", full, " toProto() {")
	g.P("    return ", full, ".valueOf(\"", prefix, "\" + name());")
	g.P("  }")
	g.P("}")
}

func javaMethod(g *protogen.GeneratedFile, r *rpc) {
	name := strings.ToLower(r.GoName[:1]) + r.GoName[1:]
	request := javaType(r.request.Message)
	stub := "dev.runloom.v1." + r.Parent.GoName + "Grpc::newBlockingStub"
	proto := "var p = request.toProto().toBuilder();"
	result := "void"
	switch {
	case r.pages:
		result = "Iterable<" + javaType(r.result.Message) + ">"
	case r.result != nil:
		result = javaType(r.result.Message)
	case r.response != nil:
		result = javaType(r.response.Message)
	}
	lines := comment(r.Comments)
	if r.pages {
		lines = append(lines, "It reads the pages as they are needed.")
	}
	g.P()
	javaDoc(g, "  ", lines)
	g.P("  public ", result, " ", name, "(", request, " request) {")
	g.P("    ", proto)
	for _, field := range r.Input.Fields {
		switch field.Desc.Name() {
		case "json_encoding":
			g.P("    p.setJsonEncoding(dev.runloom.v1.JsonEncoding.JSON_ENCODING_TEXT);")
		case "max_part_bytes":
			g.P("    p.setMaxPartBytes(maxPartBytes());")
		}
	}
	repeat := fmt.Sprint(!r.once)
	if r.prepare {
		repeat = "Ids.prepare(p)"
	}
	call := "call(" + repeat + ", " + stub + ", s -> s." + name + "(p.build()))"
	switch {
	case r.pages:
		g.P("    return pages(token -> {")
		g.P("      var page = call(true, ", stub, ", s -> s.", name, "(p.setPageToken(token).build()));")
		g.P("      return new Page<>(Values.list(page.get", r.result.GoName, "List(), ", javaType(r.result.Message), "::from), page.getNextPageToken());")
		g.P("    });")
	case r.result != nil:
		g.P("    var response = ", call, ";")
		g.P("    return response.has", r.result.GoName, "() ? ", result, ".from(response.get", r.result.GoName, "()) : null;")
	case r.response != nil:
		g.P("    return ", result, ".from(", call, ");")
	default:
		g.P("    ", call, ";")
	}
	g.P("  }")
	g.P()
	javaDoc(g, "  ", lines)
	g.P("  public ", result, " ", name, "(Consumer<", request, ".Builder> request) {")
	g.P("    var builder = ", request, ".builder();")
	g.P("    request.accept(builder);")
	keyword := "return "
	if result == "void" {
		keyword = ""
	}
	g.P("    ", keyword, name, "(builder.build());")
	g.P("  }")
}
