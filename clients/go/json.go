package runloom

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	v1 "runloom.dev/clients/go/runloom/v1"
)

// JSON is a JSON value as the server sent it: exact, and not yet decoded. Decode reads it into a variable, Value into Go's own types.
//
// A nil JSON is an absent value; JSON's null is `JSON("null")`.
type JSON []byte

// Encode encodes any value as JSON, for example a map or a struct.
func Encode(value any) (JSON, error) {
	switch value := value.(type) {
	case JSON:
		return value, nil
	case json.RawMessage:
		return JSON(value), nil
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return JSON(bytes.TrimSuffix(out.Bytes(), []byte("\n"))), nil
}

// MustEncode is Encode for values that can always be encoded, such as literals. It panics otherwise.
func MustEncode(value any) JSON {
	encoded, err := Encode(value)
	if err != nil {
		panic(err)
	}
	return encoded
}

// Decode reads a JSON value, or any other value that can be encoded as JSON, into a variable: the field of a message may have either.
func Decode(value any, into any) error {
	encoded, err := Encode(value)
	if err != nil {
		return err
	}
	return encoded.Decode(into)
}

// Decode reads the value into a variable, as json.Unmarshal does.
func (j JSON) Decode(into any) error {
	if j == nil {
		return errors.New("runloom: the value is absent")
	}
	return json.Unmarshal(j, into)
}

// Value decodes the value into nil, bool, string, int64, float64, []any and map[string]any. A number without a fraction is an int64 if it fits, and a
// json.Number if it does not.
func (j JSON) Value() any {
	if j == nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(j))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	return native(value)
}

// Map decodes an object as Value does. It is nil if the value is not an object.
func (j JSON) Map() map[string]any {
	object, _ := j.Value().(map[string]any)
	return object
}

// String returns the text.
func (j JSON) String() string { return string(j) }

// MarshalJSON returns the value as it is.
func (j JSON) MarshalJSON() ([]byte, error) {
	if j == nil {
		return []byte("null"), nil
	}
	return j, nil
}

// UnmarshalJSON copies the text.
func (j *JSON) UnmarshalJSON(text []byte) error {
	*j = bytes.Clone(text)
	return nil
}

func native(value any) any {
	switch value := value.(type) {
	case json.Number:
		if !strings.ContainsAny(string(value), ".eE") {
			if whole, err := value.Int64(); err == nil {
				return whole
			}
			return value
		}
		if float, err := value.Float64(); err == nil {
			return float
		}
	case []any:
		for i, item := range value {
			value[i] = native(item)
		}
	case map[string]any:
		for key, item := range value {
			value[key] = native(item)
		}
	}
	return value
}

func jsonFrom(p *v1.Json) JSON {
	switch encoding := p.GetEncoding().(type) {
	case *v1.Json_Json:
		return JSON(encoding.Json)
	case *v1.Json_Value:
		// Only if a server ignores the encoding that was requested.
		text, err := protojson.Marshal(encoding.Value)
		if err != nil {
			return nil
		}
		return JSON(text)
	}
	return nil
}

// anyFrom is nil, and not a nil JSON, for an absent value.
func anyFrom(p *v1.Json) any {
	if value := jsonFrom(p); value != nil {
		return value
	}
	return nil
}

func jsonTo(encoded JSON) *v1.Json {
	return &v1.Json{Encoding: &v1.Json_Json{Json: string(encoded)}}
}

// encoder records the first value that cannot be sent.
type encoder struct{ err error }

func (e *encoder) fail(field string, err error) {
	if e.err == nil {
		e.err = fmt.Errorf("runloom: field %s: %w", field, err)
	}
}

// json encodes a value. A nil value, also a nil JSON, is absent.
func (e *encoder) json(field string, value any) *v1.Json {
	if value == nil {
		return nil
	}
	if encoded, ok := value.(JSON); ok && encoded == nil {
		return nil
	}
	encoded, err := Encode(value)
	if err != nil {
		e.fail(field, err)
		return nil
	}
	return jsonTo(encoded)
}

func (e *encoder) values(field string, values map[string]any) map[string]*v1.Json {
	if len(values) == 0 {
		return nil
	}
	out := make(map[string]*v1.Json, len(values))
	for key, value := range values {
		encoded, err := Encode(value)
		if err != nil {
			e.fail(field+"."+key, err)
		}
		out[key] = jsonTo(encoded)
	}
	return out
}

// one checks that only one field of a oneof is set.
func (e *encoder) one(first bool, oneof string) {
	if !first {
		e.fail(oneof, errors.New("only one of its fields can be set"))
	}
}
