//! What becomes of each number that was given to a record. The one place that decides it, for a plan and for the deed.

use crate::store::sqlite::deleted::Range;
use crate::store::sqlite::row;
use crate::store::sqlite::survey::ground::Ground;
use crate::store::sqlite::survey::states::StateRow;
use crate::store::sqlite::survey::{Place, Standing, Window, in_words};

/// What becomes of a record, or of some that are not there.
#[derive(Debug)]
pub(super) enum Fate<'a> {
    /// It stays as it is. Without a row it was never handed out.
    Kept { place: &'a Place, row: Option<&'a StateRow> },
    /// It stays, as a dead letter.
    GivenUp { place: &'a Place, receipt: String, reason: String },
    /// They are lost.
    Lost { range: Range, why: String, receipt: Option<String>, place: Option<&'a Place> },
    /// It had been deleted, or it is a row that belongs to nothing.
    Dropped { place: Option<&'a Place>, row: Option<&'a StateRow> },
}

/// The fates of all numbers in a window, in order; what belongs to none of them last.
pub(super) fn fates<'a>(window: &'a Window, ground: &Ground) -> Vec<Fate<'a>> {
    let mut fates: Vec<(i64, Fate<'a>)> = Vec::with_capacity(window.places.len());
    fates.extend(window.places.iter().map(|place| (place.seq, of_place(place, window, ground))));
    let mut stray: Vec<&StateRow> = window.strays.iter().collect();
    stray.sort_by_key(|row| row.seq);
    for (range, failure) in &window.missing {
        let cause = failure
            .as_ref()
            .map_or_else(|| "it is missing".to_owned(), |failure| format!("it cannot be read: {failure}"));
        // Those of which something is still known apart from the others.
        let (mut from, of_them) =
            (range.first, stray.iter().filter(|row| (range.first..=range.last).contains(&row.seq)));
        let lost =
            |first, last, why| (first, Fate::Lost { range: Range { first, last }, why, receipt: None, place: None });
        for row in of_them {
            if row.seq > from {
                fates.push(lost(from, row.seq - 1, cause.clone()));
            }
            if row.seq >= from {
                let rows: Vec<StateRow> =
                    stray.iter().filter(|other| other.seq == row.seq).map(|row| (*row).clone()).collect();
                fates.push(lost(row.seq, row.seq, format!("{cause}; it was {}", in_words(&rows, 0))));
            }
            from = row.seq + 1;
        }
        if from <= range.last {
            fates.push(lost(from, range.last, cause));
        }
    }
    fates.sort_by_key(|(seq, _)| *seq);
    let strays = window.strays.iter().map(|row| Fate::Dropped { place: None, row: Some(row) });
    fates.into_iter().map(|(_, fate)| fate).chain(strays).collect()
}

fn of_place<'a>(place: &'a Place, window: &Window, ground: &Ground) -> Fate<'a> {
    let receipt = || ground.mask.id_of(place.seq.cast_unsigned(), place.head.random).to_string();
    let standing = place.standing();
    // What was deleted has no state any more. The newest record is never deleted.
    if place.is_deleted && matches!(standing, Standing::Unknown) && place.seq < ground.newest {
        return Fate::Dropped { place: Some(place), row: None };
    }
    if let Err(damage) = place.checked {
        let state = match &standing {
            Standing::Untried => "it was never handed out".to_owned(),
            Standing::Row(row) => format!("it was {}", in_words(std::slice::from_ref(*row), 0)),
            Standing::Unknown => "what had become of it is unknown".to_owned(),
            Standing::Contradiction(what) => what.clone(),
        };
        let range = Range { first: place.seq, last: place.seq };
        return Fate::Lost { range, why: format!("{damage}; {state}"), receipt: Some(receipt()), place: Some(place) };
    }
    let given_up = |what: &str| {
        let body = window.blocks.get(place.block).and_then(|block| block.get(place.seq)).and_then(|(_, body)| body);
        let is_trimmed = body.and_then(<[u8]>::first) == Some(&row::TRIMMED);
        let settled = if is_trimmed { "; its details had been let go, so it was settled" } else { "" };
        let reason = format!("damage of the store: {what}, so whether it was delivered cannot be told{settled}");
        Fate::GivenUp { place, receipt: receipt(), reason }
    };
    match standing {
        Standing::Untried => Fate::Kept { place, row: None },
        Standing::Row(row) => Fate::Kept { place, row: Some(row) },
        Standing::Unknown => given_up("nothing says what became of the record"),
        Standing::Contradiction(what) => given_up(&what),
    }
}
