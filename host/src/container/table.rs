//! All containers by id and name. A name is given once: it is reserved before its container exists.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::cell::Cell;
use super::names;
use crate::error::{Error, ErrorKind, Result};

#[derive(Default)]
pub struct Table {
    cells: BTreeMap<String, Arc<Cell>>,
    names: HashMap<String, String>,
}

impl Table {
    /// The name, checked or invented, is `id`'s from now on.
    pub fn reserve(&mut self, name: Option<&str>, id: &str, random: impl FnMut() -> u64) -> Result<String> {
        let name = match name {
            Some(name) if !name.is_empty() => names::check(name)?.to_owned(),
            _ => names::invent(random, |name| self.names.contains_key(name)),
        };
        match self.names.get(&name) {
            Some(holder) => Err(taken(&name, holder)),
            None => {
                self.names.insert(name.clone(), id.to_owned());
                Ok(name)
            }
        }
    }

    pub fn free(&mut self, name: &str) {
        self.names.remove(name);
    }

    pub fn insert(&mut self, cell: Arc<Cell>) {
        self.cells.insert(cell.id.clone(), cell);
    }

    pub fn remove(&mut self, id: &str, name: &str) {
        self.cells.remove(id);
        self.names.remove(name);
    }

    pub fn all(&self) -> Vec<Arc<Cell>> {
        self.cells.values().cloned().collect()
    }

    /// A full id, a name with or without its slash, or the start of an id, in this order.
    pub fn find(&self, wanted: &str) -> Result<Arc<Cell>> {
        if let Some(cell) = self.cells.get(wanted) {
            return Ok(cell.clone());
        }
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        if let Some(cell) = self.names.get(name).and_then(|id| self.cells.get(id)) {
            return Ok(cell.clone());
        }
        let from = self.cells.range(wanted.to_owned()..).map(|(id, cell)| (id.as_str(), cell));
        let mut matching = from.take_while(|(id, _)| !wanted.is_empty() && id.starts_with(wanted));
        match (matching.next(), matching.next()) {
            (Some((_, cell)), None) => Ok(cell.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!("multiple IDs found with provided prefix: {wanted}"))),
            (None, _) => Err(Error::new(ErrorKind::NotFound, format!("No such container: {wanted}"))),
        }
    }
}

fn taken(name: &str, holder: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::fixture;

    fn table(ids: &[(&str, &str)]) -> Table {
        let mut table = Table::default();
        for (id, name) in ids {
            table.reserve(Some(name), id, || 0).unwrap();
            table.insert(fixture::cell(id, name));
        }
        table
    }

    #[test]
    fn containers_are_found_by_id_name_and_start_of_id() {
        let table = table(&[("abc1", "web"), ("abc2", "abc"), ("def1", "db")]);
        for (wanted, found) in [
            ("abc1", Ok("abc1")),
            ("web", Ok("abc1")),
            ("/web", Ok("abc1")),
            ("abc", Ok("abc2")),
            ("d", Ok("def1")),
            ("ab", Err("multiple IDs found with provided prefix: ab")),
            ("x", Err("No such container: x")),
            ("", Err("No such container: ")),
        ] {
            let outcome = table.find(wanted).map(|cell| cell.id.clone()).map_err(|error| error.to_string());
            assert_eq!(outcome.as_deref().map_err(String::as_str), found, "{wanted:?}");
        }
    }

    #[test]
    fn a_name_is_given_once() {
        let mut table = table(&[("abc1", "web")]);
        let error = table.reserve(Some("/web"), "def1", || 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(
            error
                .to_string()
                .starts_with("Conflict. The container name \"/web\" is already in use by container \"abc1\".")
        );
        table.free("web");
        assert_eq!(table.reserve(Some("web"), "def1", || 0).unwrap(), "web");
        assert!(table.reserve(None, "fed1", || 7).unwrap().contains('_'));
    }
}
