//! Into a [`Value`] from any `Serialize`, and from a [`Value`] to any serde format.

use std::cell::RefCell;

use serde::ser::{self, Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};

use super::{List, MAX_WRAPPED, Object, Value};

/// The name under which a [`Value`] passes through serde whole, when both ends are ours.
pub(super) const SHARED: &str = "$runloom::Value";

/// A value on its way through serde to the other end of the same call, so that it is shared and not rebuilt.
pub(super) enum Transit {
    Idle,
    Wanted,
    Here(Value),
}

thread_local! {
    pub(super) static TRANSIT: RefCell<Transit> = const { RefCell::new(Transit::Idle) };
}

/// The value of anything that serialises.
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, serde_json::Error> {
    value.serialize(ToValue)
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::String(_) | Self::List(_) | Self::Object(_) => {
                serializer.serialize_newtype_struct(SHARED, &Top(self))
            }
            scalar => Plain(scalar).serialize(serializer),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::Object(self.clone()).serialize(serializer)
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Value::List(self.clone()).serialize(serializer)
    }
}

/// The value itself, for our own serializer, or its data for any other.
struct Top<'a>(&'a Value);

impl Serialize for Top<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let wanted = TRANSIT.with_borrow_mut(|slot| {
            let wanted = matches!(slot, Transit::Wanted);
            if wanted {
                *slot = Transit::Here(self.0.clone());
            }
            wanted
        });
        if wanted {
            return s.serialize_unit();
        }
        if self.0.depth() > MAX_WRAPPED {
            return Err(S::Error::custom(format_args!("a value nested deeper than {MAX_WRAPPED} levels")));
        }
        Plain(self.0).serialize(s)
    }
}

/// A value as plain data.
struct Plain<'a>(&'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => s.serialize_unit(),
            Value::Bool(b) => s.serialize_bool(*b),
            Value::Int(i) => s.serialize_i64(*i),
            Value::UInt(u) => s.serialize_u64(*u),
            Value::Float(f) => s.serialize_f64(*f),
            Value::String(text) => s.serialize_str(text),
            Value::List(items) => {
                let mut seq = s.serialize_seq(Some(items.len()))?;
                for item in items.iter() {
                    seq.serialize_element(&Plain(item))?;
                }
                seq.end()
            }
            Value::Object(fields) => {
                let mut map = s.serialize_map(Some(fields.len()))?;
                for (key, value) in fields.iter() {
                    map.serialize_entry(&**key, &Plain(value))?;
                }
                map.end()
            }
        }
    }
}

struct ToValue;

/// A list or an object being built; `variant` wraps it as an enum's variant.
struct Items {
    items: Vec<Value>,
    variant: Option<&'static str>,
}

struct Fields {
    fields: Vec<(String, Value)>,
    key: Option<String>,
    variant: Option<&'static str>,
}

type Error = serde_json::Error;

fn wrap(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        None => value,
        Some(name) => Value::Object([(name, value)].into_iter().collect()),
    }
}

macro_rules! scalars {
    ($($method:ident: $from:ty => |$v:ident| $make:expr;)*) => { $(fn $method(self, $v: $from) -> Result<Value, Error> { Ok($make) })* };
}

impl Serializer for ToValue {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Fields;

    scalars! {
        serialize_bool: bool => |v| Value::Bool(v);
        serialize_i8: i8 => |v| Value::Int(v.into());
        serialize_i16: i16 => |v| Value::Int(v.into());
        serialize_i32: i32 => |v| Value::Int(v.into());
        serialize_i64: i64 => |v| Value::Int(v);
        serialize_u8: u8 => |v| Value::Int(v.into());
        serialize_u16: u16 => |v| Value::Int(v.into());
        serialize_u32: u32 => |v| Value::Int(v.into());
        serialize_u64: u64 => |v| v.into();
        serialize_f32: f32 => |v| f64::from(v).into();
        serialize_f64: f64 => |v| v.into();
        serialize_char: char => |v| Value::string(v.encode_utf8(&mut [0; 4]));
        serialize_str: &str => |v| Value::string(v);
        serialize_bytes: &[u8] => |v| Value::List(v.iter().map(|b| Value::Int((*b).into())).collect());
    }

    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, Error> {
        Ok(Value::string(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<Value, Error> {
        if name != SHARED {
            return value.serialize(self);
        }
        TRANSIT.set(Transit::Wanted);
        let plain = value.serialize(self);
        match TRANSIT.replace(Transit::Idle) {
            Transit::Here(shared) => Ok(shared),
            _ => plain,
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        Ok(wrap(Some(variant), value.serialize(self)?))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Items, Error> {
        Ok(Items { items: Vec::with_capacity(len.unwrap_or(0)), variant: None })
    }

    fn serialize_tuple(self, len: usize) -> Result<Items, Error> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Items, Error> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items, Error> {
        Ok(Items { items: Vec::with_capacity(len), variant: Some(variant) })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Fields, Error> {
        Ok(Fields { fields: Vec::with_capacity(len.unwrap_or(0)), key: None, variant: None })
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Fields, Error> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Fields, Error> {
        Ok(Fields { fields: Vec::with_capacity(len), key: None, variant: Some(variant) })
    }
}

macro_rules! items {
    ($($r#trait:ident $method:ident),*) => { $(impl ser::$r#trait for Items {
        type Ok = Value;
        type Error = Error;
        fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
            self.items.push(value.serialize(ToValue)?);
            Ok(())
        }
        fn end(self) -> Result<Value, Error> {
            Ok(wrap(self.variant, Value::List(List::from(self.items))))
        }
    })* };
}

items!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

impl Fields {
    fn finish(self) -> Value {
        wrap(self.variant, Value::Object(self.fields.into_iter().collect::<Object>()))
    }
}

impl SerializeMap for Fields {
    type Ok = Value;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = Some(match key.serialize(ToValue)? {
            Value::String(text) => text.to_string(),
            v @ (Value::Bool(_) | Value::Int(_) | Value::UInt(_)) => v.to_string(),
            other => return Err(Error::custom(format_args!("a map's key must be a string, not {}", other.kind()))),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| Error::custom("a map's value came before its key"))?;
        self.fields.push((key, value.serialize(ToValue)?));
        Ok(())
    }

    fn end(self) -> Result<Value, Error> {
        Ok(self.finish())
    }
}

macro_rules! fields {
    ($($r#trait:ident),*) => { $(impl ser::$r#trait for Fields {
        type Ok = Value;
        type Error = Error;
        fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
            self.fields.push((key.to_owned(), value.serialize(ToValue)?));
            Ok(())
        }
        fn end(self) -> Result<Value, Error> {
            Ok(self.finish())
        }
    })* };
}

fields!(SerializeStruct, SerializeStructVariant);
