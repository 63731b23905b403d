//! Lists: docker's tables to the blank, `--format`, `-q`. The one place that writes to stdout.

use std::io::{self, Write};
use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::colour;
use super::json::Json;
use super::template::Template;
use crate::error::{Error, ErrorKind, Result};

/// Least width of a column and the blanks after its longest cell, as docker's.
const NARROWEST: usize = 10;
const GAP: usize = 3;

/// One kind of list: fields with the heading of each, and which of them make the usual table.
pub struct Listing {
    pub headings: &'static [(&'static str, &'static str)],
    pub usual: &'static [&'static str],
}

impl Listing {
    /// The text for stdout.
    pub fn render(&self, rows: &[Map<String, Value>], format: Option<&str>) -> Result<String> {
        match format.unwrap_or("table").trim() {
            "table" => Ok(self.table(rows)),
            "json" | "{{json .}}" => Ok(rows.iter().map(|row| escaped(&Json::from(row)) + "\n").collect()),
            text => match text.strip_prefix("table ") {
                Some(columns) => self.chosen(rows, &unescape(columns)),
                None => self.lines(rows, &unescape(text)),
            },
        }
    }

    fn table(&self, rows: &[Map<String, Value>]) -> String {
        let heading = self.usual.iter().map(|field| self.heading(field)).collect();
        let cell =
            |row: &Map<String, Value>, field: &str| row.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let body = rows.iter().map(|row| self.usual.iter().map(|field| cell(row, field)).collect());
        align(&std::iter::once(heading).chain(body).collect::<Vec<_>>())
    }

    fn chosen(&self, rows: &[Map<String, Value>], columns: &str) -> Result<String> {
        let template = Template::parse(columns)?;
        let cells = |line: String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        let headings =
            self.headings.iter().map(|(field, heading)| (field.to_string(), Json::Text(heading.to_string())));
        let mut lines = vec![cells(template.heading(&Json::Map(headings.collect()))?)];
        for row in rows {
            lines.push(cells(template.render(&Json::from(row))?));
        }
        Ok(align(&lines))
    }

    fn lines(&self, rows: &[Map<String, Value>], text: &str) -> Result<String> {
        let template = Template::parse(text)?;
        let mut out = String::new();
        for row in rows {
            out += &template.render(&Json::from(row))?;
            out.push('\n');
        }
        Ok(out)
    }

    fn heading(&self, field: &str) -> String {
        let known = self.headings.iter().find(|(name, _)| *name == field);
        known.map_or_else(|| field.to_uppercase(), |(_, heading)| (*heading).to_owned())
    }
}

/// `\t` and `\n` as typed in a shell's single quotes.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// In one line; `<`, `>` and `&` escaped as Go does, so that docker's readers see the same bytes.
fn escaped(json: &Json) -> String {
    json.compact().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Cells under each other; the last of a line is not filled up.
pub fn align(lines: &[Vec<String>]) -> String {
    align_from(lines, NARROWEST)
}

/// As [`align`], with another least width.
pub fn align_from(lines: &[Vec<String>], narrowest: usize) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter(|line| column + 1 < line.len()).filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count() + GAP).max().unwrap_or(0).max(narrowest)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            if column + 1 == line.len() {
                out += cell;
            } else {
                out += &format!("{cell:<width$}", width = widths[column]);
            }
        }
        out.push('\n');
    }
    out
}

/// Where all of it goes instead, line by line, once [`divert`] has said so.
static DIVERTED: OnceLock<fn(&str)> = OnceLock::new();

/// From here on in this process: stdout and stderr are others', what is said goes to `log`. For `wharf serve`, whose log
/// has a format of its own.
pub fn divert(log: fn(&str)) {
    // The first stays: there is one `wharf serve` in a process.
    let _ = DIVERTED.set(log);
}

/// Write to stdout; a reader that has seen enough is no failure.
pub fn print(text: &str) -> Result<()> {
    if let Some(log) = DIVERTED.get() {
        text.lines().filter(|line| !line.trim().is_empty()).for_each(log);
        return Ok(());
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::Io, "cannot write to stdout").because(error))
        }
        _ => Ok(()),
    }
}

pub fn println(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Talk: to stderr, and nothing is left to do when even that is closed.
pub fn say(text: &str) {
    if let Some(log) = DIVERTED.get() {
        text.lines().filter(|line| !line.trim().is_empty()).for_each(log);
        return;
    }
    let marks = [("WARNING:", colour::YELLOW), ("wharf:", colour::RED)];
    let text = if colour::on_stderr() { colour::mark(text, &marks) } else { text.to_owned() };
    let _ = writeln!(io::stderr(), "{text}");
}

/// A row out of pairs.
pub fn row<const N: usize>(pairs: [(&str, String); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(field, text)| (field.to_owned(), Value::String(text))).collect()
}

/// Ask before something is removed; anything but y or yes is no.
pub fn confirmed(warning: &str) -> Result<bool> {
    print(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Error::new(ErrorKind::Io, "cannot read stdin").because(error))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing = Listing { headings: &[("ID", "NETWORK ID"), ("Name", "NAME")], usual: &["ID", "Name"] };

    #[test]
    fn tables_as_docker_draws_them() {
        let rows = [row([("ID", "0123456789ab".to_owned()), ("Name", "bridge".to_owned())])];
        let render = |format| LISTING.render(&rows, format).unwrap();
        assert_eq!(render(None), "NETWORK ID     NAME\n0123456789ab   bridge\n");
        assert_eq!(render(Some("table {{.Name}}\\t{{.ID}}")), "NAME      NETWORK ID\nbridge    0123456789ab\n");
        assert_eq!(render(Some("{{.Name}}")), "bridge\n");
        assert_eq!(render(Some("json")), "{\"ID\":\"0123456789ab\",\"Name\":\"bridge\"}\n");
    }
}
