//! The terminal, or pipes in its place. Output of a run goes to standard output, status lines about the run go to standard error.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::style::DIM;

/// The two outputs of a command. Colours and the spinner are written to terminals only.
pub struct Screen {
    out: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
    /// Whether both are terminals, so that a status line must start on a line of its own.
    is_shared: bool,
    /// Whether standard error is a terminal, which shows the spinner.
    is_live: bool,
    /// Whether the last line of `out` has no newline yet.
    is_within: bool,
    spinner: Option<ProgressBar>,
}

impl Screen {
    /// The outputs of the process.
    pub fn new() -> Self {
        let (out, notes) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            out: Box::new(anstream::stdout()),
            notes: Box::new(anstream::stderr()),
            is_shared: out && notes,
            is_live: notes,
            is_within: false,
            spinner: None,
        }
    }

    /// Whether standard output is a terminal.
    pub fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Whether a person can be asked: standard input and standard error are terminals.
    pub fn is_interactive() -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Writes text to standard output, and flushes it.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.stop_spinner();
        self.is_within = !text.ends_with('\n');
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes a newline, if the last line has none.
    pub fn end_line(&mut self) -> io::Result<()> {
        if self.is_within { self.write("\n") } else { Ok(()) }
    }

    /// Writes a line to standard output.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        self.end_line()?;
        self.write(&format!("{line}\n"))
    }

    /// Writes a status line to standard error.
    pub fn status(&mut self, line: &str) -> io::Result<()> {
        self.stop_spinner();
        if self.is_shared {
            self.end_line()?;
        }
        // A closed standard error must not stop the output of the run.
        let _ = writeln!(self.notes, "{line}");
        Ok(())
    }

    /// Writes a prompt, without a newline.
    pub fn prompt(&mut self, text: &str) -> io::Result<()> {
        self.stop_spinner();
        self.end_line()?;
        write!(self.notes, "{text}")?;
        self.notes.flush()
    }

    /// Shows the spinner with a text, until something else is written. Not within a line of output.
    pub fn spin(&mut self, word: &str, since: Instant) {
        if !self.is_live || (self.is_within && self.is_shared) {
            return;
        }
        if let Some(spinner) = &self.spinner {
            spinner.set_message(word.to_owned());
            return;
        }
        let spinner = ProgressBar::new_spinner().with_elapsed(since.elapsed()).with_message(word.to_owned());
        if let Ok(style) = ProgressStyle::with_template(&format!("{{spinner:.cyan}} {DIM}{{msg}} {{elapsed}}{DIM:#}")) {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(120));
        self.spinner = Some(spinner);
    }

    /// Removes the spinner.
    pub fn stop_spinner(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.stop_spinner();
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Captured output.
    #[derive(Clone, Default)]
    pub struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        /// The text, without colours.
        pub fn text(&self) -> String {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            anstream::adapter::strip_str(&text).to_string()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        /// A screen that writes to buffers: the output, and the status lines. `is_shared` uses one buffer for both, as a terminal does.
        pub fn in_memory(is_shared: bool) -> (Self, Buffer, Buffer) {
            let out = Buffer::default();
            let notes = if is_shared { out.clone() } else { Buffer::default() };
            let screen = Self {
                out: Box::new(out.clone()),
                notes: Box::new(notes.clone()),
                is_shared,
                is_live: false,
                is_within: false,
                spinner: None,
            };
            (screen, out, notes)
        }
    }

    #[test]
    fn a_status_line_starts_a_new_line_on_a_terminal() {
        let (mut screen, out, _) = Screen::in_memory(true);
        screen.write("half").unwrap();
        screen.status("a note").unwrap();
        screen.write(" a line").unwrap();
        screen.end_line().unwrap();
        screen.end_line().unwrap();
        assert_eq!(out.text(), "half\na note\n a line\n");
    }

    #[test]
    fn pipes_are_separate() {
        let (mut screen, out, notes) = Screen::in_memory(false);
        screen.write("half").unwrap();
        screen.status("a note").unwrap();
        screen.write(" a line\n").unwrap();
        assert_eq!((out.text().as_str(), notes.text().as_str()), ("half a line\n", "a note\n"));
    }
}
