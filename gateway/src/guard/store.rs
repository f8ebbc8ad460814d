//! The counters in the registrar's file. Times are milliseconds of the wall.

use crosspoint_proto::Now;
use rusqlite::{Row, Transaction, params};

use super::sources::Record;
use super::who::Who;
use super::{Changes, VERIFIED_FOR};
use crate::registrar::{from_millis, in_millis, millis};

/// Writes what has changed.
pub(super) fn write(to: &Transaction<'_>, changes: &Changes, now: Now) -> rusqlite::Result<()> {
    let mut source = to.prepare_cached(
        "INSERT OR REPLACE INTO guard_sources (source, clear, until, beyond) VALUES (?, ?, ?, ?)",
    )?;
    for (who, record) in &changes.sources {
        let Record { clear, until, beyond } = *record;
        let at = |moment| in_millis(now, moment);
        source.execute(params![who.key(), at(clear), at(until), at(beyond)])?;
    }
    let mut room = to.prepare_cached("INSERT OR REPLACE INTO guard_rooms (room, clear) VALUES (?, ?)")?;
    for (name, clear, _) in &changes.rooms {
        room.execute(params![name, in_millis(now, *clear)])?;
    }
    let mut verified =
        to.prepare_cached("INSERT OR REPLACE INTO guard_verified (room, who, seen) VALUES (?, ?, ?)")?;
    for (name, who, seen) in &changes.verified {
        verified.execute(params![name, who.key(), in_millis(now, *seen)])?;
    }
    Ok(())
}

/// Forgets what is over.
pub(super) fn sweep(of: &Transaction<'_>, now: Now) -> rusqlite::Result<()> {
    let at = millis(now.wall);
    of.execute("DELETE FROM guard_sources WHERE clear <= ?1 AND until <= ?1 AND beyond <= ?1", [at])?;
    of.execute("DELETE FROM guard_rooms WHERE clear <= ?", [at])?;
    let long_ago = now.wall.checked_sub(VERIFIED_FOR).map_or(0, millis);
    of.execute("DELETE FROM guard_verified WHERE seen <= ?", [long_ago])?;
    Ok(())
}

/// Everything that was stored.
pub(super) fn read(from: &Transaction<'_>, now: Now) -> rusqlite::Result<Changes> {
    let at = |row: &Row<'_>, column| Ok::<_, rusqlite::Error>(from_millis(now, row.get(column)?));
    let mut stored = Changes::default();
    let mut sources = from.prepare("SELECT source, clear, until, beyond FROM guard_sources")?;
    let mut rows = sources.query([])?;
    while let Some(row) = rows.next()? {
        let record = Record { clear: at(row, 1)?, until: at(row, 2)?, beyond: at(row, 3)? };
        // A line that somebody wrote by hand is nobody.
        stored.sources.extend(Who::of_key(&row.get::<_, String>(0)?).map(|who| (who, record)));
    }
    let mut rooms = from.prepare("SELECT room, clear FROM guard_rooms")?;
    let mut rows = rooms.query([])?;
    while let Some(row) = rows.next()? {
        stored.rooms.push((row.get(0)?, at(row, 1)?, 0));
    }
    let mut verified = from.prepare("SELECT room, who, seen FROM guard_verified ORDER BY seen")?;
    let mut rows = verified.query([])?;
    while let Some(row) = rows.next()? {
        let who = Who::of_key(&row.get::<_, String>(1)?);
        let (name, seen) = (row.get::<_, String>(0)?, at(row, 2)?);
        stored.verified.extend(who.map(|who| (name, who, seen)));
    }
    Ok(stored)
}
