//! Other dialects of the same runs: what LangGraph's clients read.
//!
//! The core's [`Record`](runloom_core::Record)s are turned into LangGraph's events and objects here, and nowhere else.

pub mod langgraph;
