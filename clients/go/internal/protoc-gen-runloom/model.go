package main

import (
	"sort"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// api is what both languages generate from: the messages and RPCs that a caller sees.
type api struct {
	messages []*message
	enums    []*protogen.Enum
	reasons  *protogen.Enum
	rpcs     []*rpc
	byName   map[protoreflect.FullName]*message
}

// message is a message that has a type of its own.
type message struct {
	*protogen.Message
	name   string
	fields []*protogen.Field
	// payload is the oneof that becomes an interface, for the envelope of streams.
	payload *protogen.Oneof
	// sent and received say which conversions exist.
	sent, received bool
	// native says that JSON fields take any value, not only encoded JSON.
	native bool
}

// rpc is a unary method of the client.
type rpc struct {
	*protogen.Method
	request *message
	// result is the field that the method returns; nil if it returns nothing or the whole response.
	result *protogen.Field
	// response is set if the method returns the whole response.
	response *message
	// pages says that the method iterates over the items of all pages.
	pages bool
	// prepare says that the client has a function that fills ids in.
	prepare bool
	// once says that the call is not repeated.
	once bool
}

// Streams, and the workers' side of the Workers service, are written by hand.
var handwritten = map[string]bool{"StreamRun": true, "JoinRun": true, "StreamThread": true, "Attach": true}

// Calls that may have an effect each time, as in the Rust client.
var once = map[string]bool{
	"UpdateAssistant": true, "DeleteAssistant": true, "DeleteCron": true, "DeleteGraph": true, "DeleteRun": true, "DeleteThread": true,
	"CopyThread": true, "UpdateState": true,
}

// Calls that create something: the client fills its id in, so that they are safe to repeat.
var prepared = map[string]bool{"CreateThread": true, "CreateAssistant": true, "CreateCron": true, "CreateRun": true, "WaitRun": true}

// Messages of requests that are returned as well, and that a caller writes more often than reads.
var written = map[string]bool{"RunSpec": true, "Command": true, "Goto": true, "RunConfig": true, "Cron": true}

const (
	jsonType      = "runloom.v1.Json"
	statusType    = "google.rpc.Status"
	timestampType = "google.protobuf.Timestamp"
	durationType  = "google.protobuf.Duration"
	maskType      = "google.protobuf.FieldMask"
)

func newAPI(plugin *protogen.Plugin) *api {
	a := &api{byName: map[protoreflect.FullName]*message{}}
	for _, file := range plugin.Files {
		if file.Desc.Package() != "runloom.v1" {
			continue
		}
		for _, service := range file.Services {
			for _, method := range service.Methods {
				a.addRPC(method)
			}
		}
		for _, enum := range file.Enums {
			switch string(enum.Desc.Name()) {
			case "JsonEncoding":
			case "ErrorReason":
				a.reasons = enum
			default:
				a.enums = append(a.enums, enum)
			}
		}
	}
	for _, m := range a.byName {
		m.native = m.sent && !m.received || written[m.name]
		a.messages = append(a.messages, m)
	}
	sort.Slice(a.messages, func(i, j int) bool { return a.messages[i].name < a.messages[j].name })
	sort.Slice(a.enums, func(i, j int) bool { return a.enums[i].Desc.Name() < a.enums[j].Desc.Name() })
	return a
}

func (a *api) addRPC(method *protogen.Method) {
	name := string(method.Desc.Name())
	if handwritten[name] {
		switch name {
		case "Attach":
			a.useAttach(method.Input)
		case "StreamRun":
			a.use(method.Input.Fields[0].Message, true)
			a.use(method.Output, false)
		default:
			a.use(method.Input, true)
		}
		return
	}
	r := &rpc{Method: method, prepare: prepared[name], once: once[name]}
	r.request = a.use(method.Input, true)
	var others int
	for _, field := range method.Output.Fields {
		switch {
		case field.Desc.Name() == "next_page_token":
			r.pages = true
		case r.result == nil && field.Message != nil:
			r.result = field
		default:
			others++
		}
	}
	if r.result == nil || others > 0 {
		r.result, r.pages = nil, false
		if len(method.Output.Fields) > 0 {
			r.response = a.use(method.Output, false)
		}
	} else {
		a.use(r.result.Message, false)
	}
	if r.pages {
		kept := r.request.fields[:0:0]
		for _, field := range r.request.fields {
			if field.Desc.Name() != "page_token" {
				kept = append(kept, field)
			}
		}
		r.request.fields = kept
	}
	a.rpcs = append(a.rpcs, r)
}

// useAttach records the messages that a handler of a worker sends. The others of Attach are not seen by callers.
func (a *api) useAttach(m *protogen.Message) {
	for _, field := range m.Fields {
		if field.Message == nil {
			continue
		}
		switch field.Message.Desc.Name() {
		case "EmittedChunk", "EmittedEvent", "EmittedPart", "NodeUpdate", "ToolResult", "Handler":
			a.use(field.Message, true)
		case "Hello", "Emit", "Done":
			a.useAttach(field.Message)
		}
	}
}

// use records a message, and those of its fields, as sent or received.
func (a *api) use(m *protogen.Message, sent bool) *message {
	switch m.Desc.FullName() {
	case jsonType, statusType, timestampType, durationType, maskType:
		return nil
	}
	used := a.byName[m.Desc.FullName()]
	if used == nil {
		used = &message{Message: m, name: typeName(m)}
		for _, field := range m.Fields {
			switch {
			case field.Desc.Name() == "json_encoding" || field.Desc.Name() == "max_part_bytes":
			case field.Oneof != nil && field.Oneof.Desc.Name() == "payload":
				used.payload = field.Oneof
			default:
				used.fields = append(used.fields, field)
			}
		}
		a.byName[m.Desc.FullName()] = used
	}
	if sent && used.sent || !sent && used.received {
		return used
	}
	used.sent, used.received = used.sent || sent, used.received || !sent
	for _, field := range m.Fields {
		switch {
		case field.Message == nil:
		case field.Desc.IsMap():
			if value := field.Message.Fields[1].Message; value != nil {
				a.use(value, sent)
			}
		default:
			a.use(field.Message, sent)
		}
	}
	return used
}

func typeName(m *protogen.Message) string {
	switch m.Desc.Name() {
	case "StreamRunResponse":
		return "Part"
	case "Worker":
		// The name belongs to the worker that a program runs.
		return "AttachedWorker"
	}
	return string(m.Desc.Name())
}

// is reports whether a field is a message of this type.
func is(field *protogen.Field, name protoreflect.FullName) bool {
	return field.Message != nil && field.Message.Desc.FullName() == name
}

// inOneof reports whether a field is in a oneof, other than that of `optional`.
func inOneof(field *protogen.Field) bool {
	return field.Oneof != nil && !field.Oneof.Desc.IsSynthetic()
}

// camel joins the words of a name in snake case, with the initialisms of Go.
func camel(snake string) string {
	var out strings.Builder
	for _, word := range strings.Split(snake, "_") {
		switch word {
		case "id", "url", "ttl":
			out.WriteString(strings.ToUpper(word))
		case "ids":
			out.WriteString("IDs")
		case "":
		default:
			out.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return out.String()
}

// valueName is the name of an enum's value without the name of the enum.
func valueName(enum *protogen.Enum, value *protogen.EnumValue) string {
	var prefix strings.Builder
	for i, letter := range string(enum.Desc.Name()) {
		if i > 0 && letter >= 'A' && letter <= 'Z' {
			prefix.WriteByte('_')
		}
		prefix.WriteRune(letter)
	}
	return strings.TrimPrefix(string(value.Desc.Name()), strings.ToUpper(prefix.String())+"_")
}

// comment returns the text of a comment without its marks.
func comment(comments protogen.CommentSet) []string {
	text := strings.TrimRight(string(comments.Leading), "\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return lines
}
