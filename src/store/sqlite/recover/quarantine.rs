//! The bytes of what is not kept, and a list of it: for whoever wants to make sense of them by hand.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use serde_json::json;

use super::fate::Fate;
use crate::store::sqlite::error::OpenError;
use crate::store::sqlite::schema::open_private;
use crate::store::sqlite::survey::ground::Ground;
use crate::store::sqlite::survey::states::{StateRow, TABLES};
use crate::store::sqlite::survey::{Place, Window};

/// The two files.
pub(super) struct Quarantine {
    bytes: Out,
    manifest: Out,
    /// How many bytes there are.
    written: u64,
}

struct Out {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Out {
    fn create(path: PathBuf) -> Result<Self, OpenError> {
        let file = open_private(&path).map_err(OpenError::io("cannot make", &path))?;
        Ok(Self { file: BufWriter::new(file), path })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), OpenError> {
        self.file.write_all(bytes).map_err(OpenError::io("cannot write", &self.path))
    }

    fn finish(mut self) -> Result<(), OpenError> {
        let written = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        written.map_err(OpenError::io("cannot sync", &self.path))
    }
}

impl Quarantine {
    /// Makes them in this folder.
    pub(super) fn create(folder: &Path) -> Result<Self, OpenError> {
        Ok(Self {
            bytes: Out::create(folder.join("quarantine.bin"))?,
            manifest: Out::create(folder.join("manifest.jsonl"))?,
            written: 0,
        })
    }

    /// Takes in what is not kept as it was.
    pub(super) fn take(&mut self, ground: &Ground, window: &Window, fate: &Fate<'_>) -> Result<(), OpenError> {
        match fate {
            Fate::Kept { .. } => Ok(()),
            Fate::GivenUp { place, receipt, reason } => {
                let rows: Vec<_> = place.rows.iter().map(described).collect();
                let line = json!({
                    "what": "given up", "number": place.seq, "receipt": receipt, "reason": reason, "rows": rows,
                });
                self.line(&line)
            }
            Fate::Lost { range, why, receipt, place } => {
                let mut line = json!({ "what": "lost", "from": range.first, "to": range.last, "why": why });
                self.put_bytes(&mut line, (ground, window), *place)?;
                if let (Some(members), Some(receipt)) = (line.as_object_mut(), receipt) {
                    members.insert("receipt".to_owned(), json!(receipt));
                }
                self.line(&line)
            }
            Fate::Dropped { place, row } => {
                let mut line = json!({ "what": "left out", "row": row.map(described) });
                self.put_bytes(&mut line, (ground, window), *place)?;
                self.line(&line)
            }
        }
    }

    /// Puts a record's bytes into the one file, and where they are into its line of the other.
    fn put_bytes(
        &mut self,
        line: &mut serde_json::Value,
        (ground, window): (&Ground, &Window),
        place: Option<&Place>,
    ) -> Result<(), OpenError> {
        let Some((place, members)) = place.zip(line.as_object_mut()) else { return Ok(()) };
        let block = window.blocks.get(place.block);
        let head = block.and_then(|block| block.heads.raw(place.seq)).unwrap_or_default();
        let body = block.and_then(|block| block.get(place.seq)).and_then(|(_, body)| body);
        let lane = ground.lanes.get(&place.head.lane.0).and_then(|lane| lane.meanings.first());
        members.insert("number".to_owned(), json!(place.seq));
        members.insert("lane".to_owned(), json!(place.head.lane.0));
        members.insert("organization".to_owned(), json!(lane.map(|lane| lane.organization.to_string())));
        members.insert("acceptedAt".to_owned(), json!(place.head.accepted_at));
        members.insert("rows".to_owned(), place.rows.iter().map(described).collect());
        members.insert("at".to_owned(), json!(self.written));
        members.insert("headBytes".to_owned(), json!(head.len()));
        members.insert("bodyBytes".to_owned(), json!(body.map(<[u8]>::len)));
        for part in [head, body.unwrap_or_default()] {
            self.bytes.write(part)?;
            self.written += part.len() as u64;
        }
        Ok(())
    }

    fn line(&mut self, line: &serde_json::Value) -> Result<(), OpenError> {
        self.manifest.write(format!("{line}\n").as_bytes())
    }

    /// Makes them durable.
    pub(super) fn finish(self) -> Result<(), OpenError> {
        self.bytes.finish()?;
        self.manifest.finish()
    }
}

/// A row of a state, without the lease token, which is a secret while it counts.
fn described(row: &StateRow) -> serde_json::Value {
    let Some(table) = TABLES.get(row.table) else { return json!(null) };
    let names = table.column_names();
    let mut members = serde_json::Map::new();
    members.insert("table".to_owned(), json!(table.name));
    for (name, value) in names.split(", ").zip(&row.values) {
        let value = match value {
            Value::Null => json!(null),
            Value::Integer(number) => json!(number),
            Value::Real(number) => json!(number),
            Value::Text(text) => json!(text),
            Value::Blob(blob) => json!(format!("{} bytes", blob.len())),
        };
        members.insert(name.to_owned(), value);
    }
    members.into()
}
