//! The terminal, or the pipes in its place: what a run says goes to the standard output, what is told about it to the other.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::style::DIM;

/// Where a command writes. Colours and the spinner are for terminals only.
pub struct Screen {
    out: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
    /// Whether both are the same terminal, so that a note must not break into a line.
    is_shared: bool,
    /// Whether the spinner can be seen.
    is_live: bool,
    /// Whether `out` stands within a line.
    is_within: bool,
    spinner: Option<ProgressBar>,
}

impl Screen {
    /// That of the process.
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

    /// Whether a person looks at the standard output.
    pub fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Whether a person is there to answer.
    pub fn is_interactive() -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Says a piece of text, at once.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.rest();
        self.is_within = !text.ends_with('\n');
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Ends the line that was begun, if one was.
    pub fn end_line(&mut self) -> io::Result<()> {
        if self.is_within { self.say("\n") } else { Ok(()) }
    }

    /// Says a line of its own.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        self.end_line()?;
        self.say(&format!("{line}\n"))
    }

    /// Tells something about what is going on.
    pub fn note(&mut self, line: &str) -> io::Result<()> {
        self.rest();
        if self.is_shared {
            self.end_line()?;
        }
        // Where nobody listens to the notes, the run's own words still count.
        let _ = writeln!(self.notes, "{line}");
        Ok(())
    }

    /// Asks for a line, on the line of the answer.
    pub fn prompt(&mut self, text: &str) -> io::Result<()> {
        self.rest();
        self.end_line()?;
        write!(self.notes, "{text}")?;
        self.notes.flush()
    }

    /// Turns the spinner, with a word, until something else is written. Within a line it stays away.
    pub fn wait(&mut self, word: &str, since: Instant) {
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

    /// Takes the spinner away.
    pub fn rest(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    pub struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        /// As text, without colours.
        pub fn text(&self) -> String {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            anstream::adapter::strip_str(&text).to_string()
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        /// One whose writing can be read: what is said, and the notes; both on one paper as on a terminal, where asked.
        pub fn on_paper(is_shared: bool) -> (Self, Paper, Paper) {
            let out = Paper::default();
            let notes = if is_shared { out.clone() } else { Paper::default() };
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
    fn a_note_breaks_into_no_line_of_a_terminal() {
        let (mut screen, out, _) = Screen::on_paper(true);
        screen.say("half").unwrap();
        screen.note("a note").unwrap();
        screen.say(" a line").unwrap();
        screen.end_line().unwrap();
        screen.end_line().unwrap();
        assert_eq!(out.text(), "half\na note\n a line\n");
    }

    #[test]
    fn pipes_are_kept_apart() {
        let (mut screen, out, notes) = Screen::on_paper(false);
        screen.say("half").unwrap();
        screen.note("a note").unwrap();
        screen.say(" a line\n").unwrap();
        assert_eq!((out.text().as_str(), notes.text().as_str()), ("half a line\n", "a note\n"));
    }
}
