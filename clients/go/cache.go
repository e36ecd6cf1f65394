package runloom

import (
	"bytes"
	"container/list"
	"encoding/json"
	"errors"
	"fmt"

	v1 "runloom.dev/clients/go/runloom/v1"
)

// cacheMinValues is the number of values that a cache holds at most.
const cacheMaxValues = 8192

var errMissing = errors.New("the value is not in the cache")

// cache holds values of channels by version, those used last, so that the server can send what changed.
type cache struct {
	maxBytes int
	bytes    int
	versions map[string]*list.Element
	// The values, those used last first.
	recent *list.List
}

// cachedValue is a value whole, or as the items of a list that has been extended.
type cachedValue struct {
	version string
	whole   JSON
	items   []json.RawMessage
	bytes   int
}

func newCache(maxBytes int) *cache {
	return &cache{maxBytes: maxBytes, versions: map[string]*list.Element{}, recent: list.New()}
}

// resolve returns the value of a channel, and remembers it. It returns errMissing if it depends on a value that was evicted.
func (c *cache) resolve(p *v1.ChannelValue) (JSON, error) {
	switch value := p.Value.(type) {
	case *v1.ChannelValue_Whole:
		whole := jsonFrom(value.Whole)
		c.put(&cachedValue{version: p.Version, whole: whole, bytes: len(whole)})
		return whole, nil
	case *v1.ChannelValue_Unchanged:
		known := c.get(p.Version)
		if known == nil {
			return nil, errMissing
		}
		return known.json(), nil
	case *v1.ChannelValue_Appended:
		base := c.get(value.Appended.GetBase())
		if base == nil {
			return nil, errMissing
		}
		return c.extend(p.Version, base, value.Appended)
	}
	return nil, fmt.Errorf("runloom: channel %s: the server sent a value of an unknown kind", p.Channel)
}

func (c *cache) extend(version string, base *cachedValue, p *v1.Appended) (JSON, error) {
	if base.items == nil {
		if err := json.Unmarshal(base.whole, &base.items); err != nil {
			return nil, errMissing
		}
	}
	var added []json.RawMessage
	if err := jsonFrom(p.Items).Decode(&added); err != nil || p.Keep > uint64(len(base.items)) {
		return nil, errMissing
	}
	// The capacity is cut, so that two extensions of one base do not share their new items.
	items := append(base.items[:p.Keep:p.Keep], added...)
	value := &cachedValue{version: version, items: items, bytes: 2}
	for _, item := range items {
		value.bytes += len(item) + 1
	}
	value.whole = value.json()
	c.put(value)
	return value.whole, nil
}

func (v *cachedValue) json() JSON {
	if v.whole != nil {
		return v.whole
	}
	var out bytes.Buffer
	out.Grow(v.bytes)
	out.WriteByte('[')
	for i, item := range v.items {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(item)
	}
	out.WriteByte(']')
	return out.Bytes()
}

func (c *cache) get(version string) *cachedValue {
	element := c.versions[version]
	if element == nil {
		return nil
	}
	c.recent.MoveToFront(element)
	return element.Value.(*cachedValue)
}

func (c *cache) put(value *cachedValue) {
	if value.version == "" || value.bytes > c.maxBytes {
		return
	}
	if before := c.versions[value.version]; before != nil {
		c.remove(before)
	}
	c.versions[value.version] = c.recent.PushFront(value)
	c.bytes += value.bytes
	for c.bytes > c.maxBytes || c.recent.Len() > cacheMaxValues {
		c.remove(c.recent.Back())
	}
}

func (c *cache) remove(element *list.Element) {
	value := c.recent.Remove(element).(*cachedValue)
	delete(c.versions, value.version)
	c.bytes -= value.bytes
}
