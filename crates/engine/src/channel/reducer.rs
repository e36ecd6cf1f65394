//! The reducers: how the writes of one step to one channel come together with what it held.

use std::{fmt, sync::Arc};

use crate::{
    List, Object, Value,
    channel::messages::{self, MessageIndex},
    checkpoint::Change,
    command::OVERWRITE,
};

/// A reducer written in Rust: what was there, and one write.
pub type ReducerFn = Arc<dyn Fn(Option<&Value>, &Value) -> Result<Value, String> + Send + Sync>;

/// How writes to a channel come together.
#[derive(Clone, Default)]
pub enum Reducer {
    /// One value per step; two writers in one step are an error.
    #[default]
    Replace,
    /// Lists are concatenated.
    Append,
    /// Numbers are summed.
    Add,
    /// The larger stays.
    Max,
    /// The smaller stays.
    Min,
    /// Objects are merged, the new keys win.
    Merge,
    /// The messages reducer: ids given, the same id replaced in place, `remove` takes away.
    Messages,
    /// Holds a value for one step.
    Ephemeral,
    /// Holds a value for one run; never stored.
    Untracked,
    /// A function.
    Custom(ReducerFn),
}

impl fmt::Debug for Reducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an application of writes came to: how the channel changed, and how to change it back.
pub(crate) struct Reduced {
    pub change: Change,
    pub undo: Undo,
}

/// How to change a channel back, should another channel of the same step refuse its writes.
pub(crate) enum Undo {
    /// It held this.
    Restore(Option<Value>),
    /// Its list was so long.
    Truncate(usize),
}

impl Undo {
    /// Changes a channel back.
    pub fn apply(self, held: &mut Option<Value>) {
        *held = match (self, held.take()) {
            (Self::Restore(before), _) => before,
            (Self::Truncate(len), Some(Value::List(list))) => Some(Value::List(list.truncated(len))),
            (Self::Truncate(_), other) => other,
        };
    }
}

impl Reducer {
    /// The name in graph documents.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Add => "add",
            Self::Max => "max",
            Self::Min => "min",
            Self::Merge => "merge",
            Self::Messages => "messages",
            Self::Ephemeral => "ephemeral",
            Self::Untracked => "untracked",
            Self::Custom(_) => "custom",
        }
    }

    /// What a channel holds before the first write. `max` and `min` start at 0, as LangGraph starts an `int`.
    pub fn start(&self) -> Option<Value> {
        match self {
            Self::Append | Self::Messages => Some(Value::List(List::default())),
            Self::Add | Self::Max | Self::Min => Some(Value::Int(0)),
            Self::Merge => Some(Value::object()),
            Self::Replace | Self::Ephemeral | Self::Untracked | Self::Custom(_) => None,
        }
    }

    /// True where one step may write it more than once.
    pub(crate) fn accumulates(&self) -> bool {
        !matches!(self, Self::Replace | Self::Ephemeral | Self::Untracked)
    }

    /// Applies a step's writes, in order, to what the channel holds; changes nothing where one cannot be applied.
    pub(crate) fn apply(
        &self,
        held: &mut Option<Value>,
        writes: &[&Value],
        index: &mut Option<MessageIndex>,
    ) -> Result<Reduced, String> {
        if !self.accumulates() {
            let [value] = writes else {
                return Err(format!(
                    "Can receive only one value per step, and {} tasks of this step wrote one. Give the channel a \
                     reducer to take several",
                    writes.len()
                ));
            };
            return Ok(set(held, overwritten(value).unwrap_or(value).clone()));
        }
        let mut overwrites = writes.iter().filter_map(|w| overwritten(w));
        match (overwrites.next(), overwrites.next()) {
            (None, _) => {}
            // The overwrite stands, whatever else the step wrote: LangGraph drops the other writes too.
            (Some(value), None) => {
                let value = match self {
                    Self::Messages => Value::List(messages::from_empty(value)?),
                    _ => value.clone(),
                };
                *index = None;
                return Ok(set(held, value));
            }
            _ => return Err("Can receive only one Overwrite value per step.".to_owned()),
        }
        match self {
            Self::Append => append(held, writes),
            Self::Messages => messages::reduce(held, writes, index),
            _ => {
                let mut value = held.clone().or_else(|| self.start());
                for write in writes {
                    value = Some(self.combine(value, write)?);
                }
                Ok(set(held, value.unwrap_or_default()))
            }
        }
    }

    /// One value from what was there and one write.
    fn combine(&self, held: Option<Value>, write: &Value) -> Result<Value, String> {
        match self {
            Self::Add => add(held.as_ref().unwrap_or(&Value::Int(0)), write),
            Self::Max | Self::Min => {
                let Some(held) = held else { return Ok(write.clone()) };
                let order = compare(&held, write)
                    .ok_or_else(|| format!("`{}` cannot compare {} with {}", self.name(), held.kind(), write.kind()))?;
                let keep = if matches!(self, Self::Max) { order.is_ge() } else { order.is_le() };
                Ok(if keep { held } else { write.clone() })
            }
            Self::Merge => {
                let mut merged = match held {
                    None => Object::default(),
                    Some(Value::Object(o)) => o,
                    Some(other) => return Err(format!("it holds {}, and `merge` needs an object", other.kind())),
                };
                let Value::Object(new) = write else {
                    return Err(format!("`merge` takes an object, and was given {}", write.kind()));
                };
                for (key, value) in new.iter() {
                    merged.insert(key.clone(), value.clone());
                }
                Ok(Value::Object(merged))
            }
            // A reducer is a user's code: its panic is its error, not the end of whoever applies it.
            Self::Custom(reduce) => {
                let reduced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reduce(held.as_ref(), write)));
                reduced.unwrap_or_else(|panic| {
                    let text = panic.downcast_ref::<&str>().copied();
                    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                    Err(format!("its reducer panicked: {}", text.unwrap_or("without a message")))
                })
            }
            _ => Ok(write.clone()),
        }
    }
}

/// The channel holds a value now.
pub(super) fn set(held: &mut Option<Value>, value: Value) -> Reduced {
    let change = Change::Set(value.clone());
    Reduced { change, undo: Undo::Restore(held.replace(value)) }
}

fn append(held: &mut Option<Value>, writes: &[&Value]) -> Result<Reduced, String> {
    if let Some(other) = held.as_ref().filter(|h| h.as_list().is_none()) {
        return Err(format!("it holds {}, and `append` needs a list", other.kind()));
    }
    let mut added = List::default();
    for write in writes {
        let items = write.as_list().ok_or_else(|| format!("`append` takes a list, and was given {}", write.kind()))?;
        added.append(items);
    }
    let mut list = match held.take() {
        Some(Value::List(list)) => list,
        _ => List::default(),
    };
    let undo = Undo::Truncate(list.len());
    list.append(&added);
    *held = Some(Value::List(list));
    Ok(Reduced { change: Change::Append(Value::List(added)), undo })
}

/// The value of `{"__overwrite__": value}`.
pub(crate) fn overwritten(value: &Value) -> Option<&Value> {
    let o = value.as_object()?;
    if o.len() == 1 { o.get(OVERWRITE) } else { None }
}

fn add(a: &Value, b: &Value) -> Result<Value, String> {
    let overflow = || "the sum does not fit 64 bits".to_owned();
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => match a.checked_add(*b) {
            Some(sum) => Ok(Value::Int(sum)),
            None => u64::try_from(i128::from(*a) + i128::from(*b)).map(Value::from).map_err(|_| overflow()),
        },
        (Value::Int(_) | Value::UInt(_), Value::Int(_) | Value::UInt(_)) => {
            let wide = |v: &Value| match v {
                Value::Int(i) => i128::from(*i),
                Value::UInt(u) => i128::from(*u),
                _ => 0,
            };
            let sum = wide(a) + wide(b);
            i64::try_from(sum).map(Value::Int).or_else(|_| u64::try_from(sum).map(Value::from)).map_err(|_| overflow())
        }
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) => Ok(Value::from(x + y)),
            _ => Err(format!("`add` sums numbers, and was given {} and {}", a.kind(), b.kind())),
        },
    }
}

fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::UInt(a), Value::UInt(b)) => Some(a.cmp(b)),
        (Value::Int(_), Value::UInt(_)) => Some(std::cmp::Ordering::Less),
        (Value::UInt(_), Value::Int(_)) => Some(std::cmp::Ordering::Greater),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}
