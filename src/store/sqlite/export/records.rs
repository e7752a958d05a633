//! The records, with what became of each.

use rusqlite::types::Value as FileValue;

use super::super::deleted::Range;
use super::super::error::OpenError;
use super::super::schema::RECORDS;
use super::super::survey::states::{StateRow, TABLES};
use super::super::survey::{Place, Standing, Survey, Window};
use super::{Piece, Source, exact};
use crate::store::Lane;
use crate::store::copying::CopyError;
use crate::store::copying::rows::{Row, Rows, Table, Value};
use crate::store::lease::DUE_AT_ONCE;
use crate::store::verification::Findings;

/// What a column of a state is made of.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// The record's organization.
    Organization,
    /// The value at this place of the row.
    At(usize),
    /// Whether the value at this place is there and no zero.
    Is(usize),
}

use Origin::{At, Is, Organization};

/// The table of a state, and how its rows are made of those of [`TABLES`], whose columns are described there.
fn of_state(name: &str) -> Option<(Table, &'static [Origin])> {
    Some(match name {
        "pending" => (Table::Pending, &[Organization, At(1), At(0), At(2), At(3), At(4), At(5)]),
        "waiting" => (Table::Waiting, &[Organization, At(0), At(1), At(2), At(4), At(3), At(5)]),
        "delivered" => (Table::Delivered, &[Organization, At(0), At(1), At(2), At(3), At(4), At(6), Is(5)]),
        "dead_letters" => (Table::DeadLetters, &[Organization, At(0), At(1), At(2), At(3), At(4)]),
        "discarded" => (Table::Discarded, &[Organization, At(0), At(1), At(2), At(3), At(4), At(5), At(6), At(7)]),
        _ => return None,
    })
}

fn guid(bytes: &[u8; 16]) -> Value {
    Value::Guid(*bytes)
}

impl Source {
    /// The lanes, and the numbers that have no record.
    pub(super) fn ground_rows(&self) -> Result<Rows, CopyError> {
        let mut rows = Rows::new();
        for (id, lane) in &self.ground.lanes {
            let Some(Lane { organization, work_stream, queue }) = lane.meanings.first() else {
                return Err(CopyError::Damaged(format!("the lane {id} has no meaning")));
            };
            let (organization, work_stream) = (organization.guid(), work_stream.guid());
            let queue = exact(queue.to_string(), || format!("the name of the queue of lane {id}"))?;
            rows.entry(Table::Lanes).or_default().push(vec![
                guid(organization.as_bytes()),
                Value::Number(*id),
                guid(work_stream.as_bytes()),
                queue,
            ]);
        }
        for Range { first, last } in self.ground.deleted.iter() {
            rows.entry(Table::Deleted).or_default().push(vec![Value::Number(*first), Value::Number(*last)]);
        }
        for lost in self.ground.lost.ranges() {
            let Range { first, last } = lost.range;
            rows.entry(Table::Lost).or_default().push(vec![
                Value::Number(first),
                Value::Number(last),
                Value::Number(lost.at.millis()),
                self.text(&lost.why),
            ]);
        }
        Ok(rows)
    }

    /// Goes through all records in order, in pieces of so many, one of which ends at this number.
    pub(in crate::store) fn each_piece(
        &self,
        (most, split_at): (usize, i64),
        take: &mut dyn FnMut(Piece) -> Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let mut findings = Findings::keeping(1);
        let mut survey = Survey::start(self.records.conn(), &self.ground);
        let failed = OpenError::sqlite(&self.directory.join(RECORDS));
        while let Some(window) = survey.window(&mut findings).map_err(&failed)? {
            check(&window, &findings)?;
            let (before, behind) = window.places.split_at(window.places.partition_point(|place| place.seq <= split_at));
            for places in before.chunks(most).chain(behind.chunks(most)) {
                let to = places.last().map_or(0, |place| place.seq);
                take(Piece { to, rows: self.rows(&window, places)? })?;
            }
            // What was deleted behind its last record.
            if window.places.last().is_none_or(|place| place.seq < window.to) && window.to >= window.from {
                take(Piece { to: window.to, rows: Rows::new() })?;
            }
        }
        Ok(())
    }

    fn rows(&self, window: &Window, places: &[Place]) -> Result<Rows, CopyError> {
        let mut rows = Rows::new();
        for place in places {
            let damaged = |what: &str| CopyError::Damaged(format!("record {}: {what}", place.seq));
            let meaning = place.checked.map_err(damaged)?;
            let lane = self.ground.lanes.get(&place.head.lane.0);
            let lane = lane.and_then(|lane| lane.meanings.get(meaning)).ok_or_else(|| damaged("it has no lane"))?;
            let organization = *lane.organization.guid().as_bytes();
            let body = window.blocks.get(place.block).and_then(|block| block.get(place.seq)).and_then(|(_, body)| body);
            let head = &place.head;
            rows.entry(Table::Records).or_default().push(vec![
                Value::Guid(organization),
                Value::Number(place.seq),
                Value::Number(head.lane.0),
                Value::Number(head.accepted_at),
                Value::Bytes(head.random.to_vec()),
                Value::Bytes(head.key.to_vec()),
                Value::Number(i64::from(head.crc)),
                Value::Bytes(body.ok_or_else(|| damaged("its body cannot be read"))?.to_vec()),
            ]);
            let (table, row) = self.state(place, organization)?;
            rows.entry(table).or_default().push(row);
        }
        Ok(rows)
    }

    /// What became of a record.
    fn state(&self, place: &Place, organization: [u8; 16]) -> Result<(Table, Row), CopyError> {
        let damaged = |what: String| CopyError::Damaged(format!("record {}: {what}", place.seq));
        match place.standing() {
            Standing::Untried => {
                let numbers = [place.head.lane.0, place.seq, DUE_AT_ONCE, 0].map(Value::Number);
                let nothing = [Value::Null, Value::Null];
                Ok((Table::Pending, [Value::Guid(organization)].into_iter().chain(numbers).chain(nothing).collect()))
            }
            Standing::Row(row) => {
                self.of_row(row, organization).ok_or_else(|| damaged("what became of it cannot be read".to_owned()))
            }
            Standing::Unknown => Err(damaged("nothing says what became of it".to_owned())),
            Standing::Contradiction(what) => Err(damaged(what)),
        }
    }

    fn of_row(&self, row: &StateRow, organization: [u8; 16]) -> Option<(Table, Row)> {
        let (table, columns) = of_state(TABLES.get(row.table)?.name)?;
        let values = columns.iter().map(|origin| {
            Some(match origin {
                Organization => Value::Guid(organization),
                At(at) => self.value(row.values.get(*at)?)?,
                Is(at) => Value::Flag(!matches!(row.values.get(*at)?, FileValue::Null | FileValue::Integer(0))),
            })
        });
        Some((table, values.collect::<Option<Row>>()?))
    }

    fn value(&self, value: &FileValue) -> Option<Value> {
        Some(match value {
            FileValue::Null => Value::Null,
            FileValue::Integer(number) => Value::Number(*number),
            FileValue::Text(text) => self.text(text),
            FileValue::Blob(bytes) => Value::Bytes(bytes.clone()),
            FileValue::Real(_) => return None,
        })
    }
}

/// Nothing may have been found that `verify` would report.
fn check(window: &Window, findings: &Findings) -> Result<(), CopyError> {
    if findings.is_damage() {
        return Err(CopyError::Damaged(format!(
            "something around records {} to {} cannot be read",
            window.from, window.to
        )));
    }
    if let Some((Range { first, last }, _)) = window.missing.first() {
        return Err(CopyError::Damaged(format!("the records {first} to {last} are missing")));
    }
    if let Some(seq) = window.strays.first().map(|row| row.seq).or_else(|| window.stray_untried.first().copied()) {
        return Err(CopyError::Damaged(format!("something became of record {seq}, which is not there")));
    }
    if let Some(place) = window.places.iter().find(|place| place.is_deleted) {
        return Err(CopyError::Damaged(format!("record {} is there although it was deleted", place.seq)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_copied_column_by_column() {
        for state in &TABLES {
            let (table, columns) = of_state(state.name).expect("it is known");
            assert_eq!((table.name(), table.columns().len()), (state.name, columns.len()));
            let names: Vec<String> = state.column_names().split(", ").map(str::to_owned).collect();
            let mut used = Vec::new();
            for ((name, _), from) in table.columns().iter().zip(columns) {
                match from {
                    Organization => assert_eq!(*name, "organization_id"),
                    At(at) | Is(at) => {
                        assert_eq!(*name, names[*at], "{}", state.name);
                        used.push(*at);
                    }
                }
            }
            used.sort_unstable();
            assert_eq!(used, (0..names.len()).collect::<Vec<_>>(), "{}", state.name);
        }
    }
}
