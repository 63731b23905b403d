//! Keys of a terminal in raw mode to lines: editing, history, and what the terminal is to show. Pure.

/// The longest line; keys beyond it are ignored. Bytes.
const LONGEST: usize = 4096;

/// Lines remembered.
const HISTORY: usize = 100;

/// What a person asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Key {
    Line(String),
    /// Ctrl-C: the line is given up.
    Interrupt,
    /// Ctrl-D on an empty line.
    End,
}

#[derive(Debug, Default)]
pub struct Editor {
    prompt: String,
    text: Vec<char>,
    /// Where the next character goes, at most `text.len()`.
    cursor: usize,
    history: Vec<String>,
    /// The line of the history that is shown; `history.len()` is the one being written.
    shown: usize,
    escape: Escape,
    /// Bytes of a character that is not complete yet.
    partial: Vec<u8>,
    last_was_return: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Started,
    Bracket(String),
}

impl Editor {
    /// Begin a line; returns what to show.
    pub fn start(&mut self, prompt: &str) -> String {
        prompt.clone_into(&mut self.prompt);
        self.text.clear();
        self.cursor = 0;
        self.shown = self.history.len();
        prompt.to_owned()
    }

    /// Take keys; returns what they ask for and what to show. Keys after a finished line belong to the next one.
    pub fn feed(&mut self, bytes: &[u8]) -> (Vec<Key>, String) {
        let (mut keys, mut echo) = (Vec::new(), String::new());
        for byte in bytes {
            self.byte(*byte, &mut keys, &mut echo);
        }
        (keys, echo)
    }

    fn byte(&mut self, byte: u8, keys: &mut Vec<Key>, echo: &mut String) {
        if self.escape != Escape::None {
            return self.escaped(byte, echo);
        }
        // A pasted `\r\n` is one end of a line.
        let after_return = std::mem::replace(&mut self.last_was_return, byte == b'\r');
        match byte {
            b'\n' if after_return => {}
            b'\r' | b'\n' => {
                echo.push('\n');
                keys.push(Key::Line(self.finish()));
            }
            0x03 => {
                echo.push_str("^C\n");
                self.text.clear();
                self.cursor = 0;
                keys.push(Key::Interrupt);
            }
            0x04 if self.text.is_empty() => {
                echo.push('\n');
                keys.push(Key::End);
            }
            0x1b => self.escape = Escape::Started,
            0x01 => self.move_to(0, echo),
            0x05 => self.move_to(self.text.len(), echo),
            0x04 => self.delete(self.cursor, self.cursor + 1, echo),
            0x08 | 0x7f => self.delete(self.cursor.saturating_sub(1), self.cursor, echo),
            0x0b => self.delete(self.cursor, self.text.len(), echo),
            0x15 => self.delete(0, self.cursor, echo),
            0x17 => self.delete(self.word_start(), self.cursor, echo),
            0x0c => {
                echo.push_str("\x1b[H\x1b[2J");
                self.redraw(echo);
            }
            0..0x20 => {}
            byte => self.letter(byte, echo),
        }
    }

    fn finish(&mut self) -> String {
        let line: String = self.text.drain(..).collect();
        self.cursor = 0;
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
            if self.history.len() > HISTORY {
                self.history.remove(0);
            }
        }
        self.shown = self.history.len();
        line
    }

    /// One byte of a character in UTF-8; shown when it is complete.
    fn letter(&mut self, byte: u8, echo: &mut String) {
        self.partial.push(byte);
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let letter = text.chars().next().filter(|letter| !letter.is_control());
                self.partial.clear();
                if let Some(letter) = letter.filter(|_| self.text.len() < LONGEST) {
                    self.text.insert(self.cursor, letter);
                    self.cursor += 1;
                    self.redraw(echo);
                }
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => self.partial.clear(),
        }
    }

    /// Arrow keys, home, end and delete, as `ESC [ …`.
    fn escaped(&mut self, byte: u8, echo: &mut String) {
        let sequence = match std::mem::take(&mut self.escape) {
            Escape::Started if byte == b'[' || byte == b'O' => {
                self.escape = Escape::Bracket(String::new());
                return;
            }
            Escape::Bracket(mut sequence) => {
                sequence.push(char::from(byte));
                if !(byte.is_ascii_alphabetic() || byte == b'~') && sequence.len() < 8 {
                    self.escape = Escape::Bracket(sequence);
                    return;
                }
                sequence
            }
            Escape::Started | Escape::None => return,
        };
        match sequence.as_str() {
            "A" => self.recall(self.shown.checked_sub(1), echo),
            "B" => self.recall(Some(self.shown + 1), echo),
            "C" => self.move_to((self.cursor + 1).min(self.text.len()), echo),
            "D" => self.move_to(self.cursor.saturating_sub(1), echo),
            "H" | "1~" => self.move_to(0, echo),
            "F" | "4~" => self.move_to(self.text.len(), echo),
            "3~" => self.delete(self.cursor, self.cursor + 1, echo),
            _ => {}
        }
    }

    fn recall(&mut self, index: Option<usize>, echo: &mut String) {
        let Some(index) = index.filter(|index| *index <= self.history.len()) else { return };
        self.shown = index;
        self.text = self.history.get(index).map(|line| line.chars().collect()).unwrap_or_default();
        self.cursor = self.text.len();
        self.redraw(echo);
    }

    fn word_start(&self) -> usize {
        let before = self.text.get(..self.cursor).unwrap_or_default();
        let end = before.iter().rposition(|letter| *letter != ' ').map_or(0, |at| at + 1);
        before.get(..end).unwrap_or_default().iter().rposition(|letter| *letter == ' ').map_or(0, |at| at + 1)
    }

    fn move_to(&mut self, cursor: usize, echo: &mut String) {
        self.cursor = cursor;
        self.redraw(echo);
    }

    fn delete(&mut self, start: usize, end: usize, echo: &mut String) {
        let end = end.min(self.text.len());
        if start < end {
            self.text.drain(start..end);
            self.cursor = start;
            self.redraw(echo);
        }
    }

    /// The whole line again, and the cursor back to its place.
    fn redraw(&self, echo: &mut String) {
        echo.push_str("\r\x1b[K");
        echo.push_str(&self.prompt);
        echo.extend(&self.text);
        let back = self.text.len() - self.cursor;
        if back > 0 {
            echo.push_str(&format!("\x1b[{back}D"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that keys make.
    fn lines(keys: &[u8]) -> Vec<Key> {
        let mut editor = Editor::default();
        editor.start("# ");
        editor.feed(keys).0
    }

    fn line(keys: &[u8]) -> String {
        match lines(keys).pop() {
            Some(Key::Line(line)) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_edit_the_line() {
        assert_eq!(line(b"lz\x7fs\r"), "ls");
        assert_eq!(line(b"s\x01l\x05 /\r"), "ls /", "to the start, to the end");
        assert_eq!(line(b"ab\x1b[D\x1b[DX\x1b[CY\r"), "XaYb", "arrows");
        assert_eq!(line(b"one two three\x17\x17four\r"), "one four", "a word back");
        assert_eq!(line(b"gone\x15kept\r"), "kept");
        assert_eq!(line(b"ab\x01\x04\r"), "b", "delete under the cursor");
        assert_eq!(line("gr\u{fc}n\x7f\r".as_bytes()), "gr\u{fc}", "characters, not bytes");
        assert_eq!(line(b"\x08\x7f\x1b[D\x1b[3~x\r"), "x", "nothing to delete is nothing");
    }

    #[test]
    fn lines_come_back() {
        let mut editor = Editor::default();
        editor.feed(b"first\rsecond\r");
        assert_eq!(editor.feed(b"\x1b[A\x1b[A\r").0, [Key::Line("first".into())]);
        assert_eq!(editor.feed(b"\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A\x1b[B\r").0, [Key::Line("second".into())]);
        assert_eq!(editor.feed(b"new\x1b[B\x1b[A\x1b[B\r").0, [Key::Line(String::new())]);
    }

    #[test]
    fn ends_and_interrupts() {
        assert_eq!(lines(b"\x04"), [Key::End]);
        assert_eq!(lines(b"abc\x03def\r"), [Key::Interrupt, Key::Line("def".into())]);
        assert_eq!(lines(b"a\r\nb\nc\r\r"), ["a", "b", "c", ""].map(|line| Key::Line(line.into())));
    }

    #[test]
    fn anything_at_all_is_survived() {
        let mut editor = Editor::default();
        for seed in 0..2000_u32 {
            let bytes: Vec<u8> =
                (0..16).map(|i| (seed.wrapping_mul(2_654_435_761).rotate_left(i * 3) & 0xff) as u8).collect();
            editor.feed(&bytes);
        }
        editor.feed(&[b'x'; LONGEST * 2]);
        assert!(editor.text.len() <= LONGEST);
    }

    #[test]
    fn the_screen_follows() {
        let mut editor = Editor::default();
        assert_eq!(editor.start("# "), "# ");
        assert_eq!(editor.feed(b"a").1, "\r\x1b[K# a");
        assert_eq!(editor.feed(b"b\x1b[D").1, "\r\x1b[K# ab\r\x1b[K# ab\x1b[1D");
    }
}
