//! Conferences, parties and tokens in the registrar's file. Times are milliseconds of the wall.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crosspoint_codecs::clock::Instant;
use crosspoint_proto::Now;
use rusqlite::{Transaction, params};

use super::{LIFE, Named, Page};
use crate::conference::policy::{Left, LeftParty, Muted, PartyId, Place, Role};
use crate::registrar::{in_millis, millis};
use crate::uuid::Uuid;

/// The hash of a token: the token itself is kept nowhere.
pub type TokenHash = [u8; 32];

/// A conference that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// It.
    pub page: Page,
    /// How long it stands though nobody comes back.
    pub stands: Duration,
    /// Tokens of its parties, each with what is left of its life.
    pub tokens: Vec<(Uuid, TokenHash, Duration)>,
}

/// Makes `after` of `before`, of the same conference.
pub(super) fn write(
    to: &Transaction<'_>,
    before: Option<&Page>,
    after: Option<&Page>,
    now: Now,
) -> rusqlite::Result<()> {
    let gone = before.filter(|before| after.is_none_or(|after| after.conference != before.conference));
    if let Some(page) = gone {
        delete(to, page.conference)?;
    }
    let Some(page) = after else { return Ok(()) };
    let before = before.filter(|_| gone.is_none());
    let flags = |page: &Page| Left { parties: Vec::new(), ..page.left.clone() };
    if before.is_none_or(|before| flags(before) != flags(page)) {
        let Left { locked, guests_muted, guests_can_unmute, opened, hosted, .. } = page.left;
        to.prepare_cached(
            "INSERT OR REPLACE INTO conferences \
             (id, service, locked, guests_muted, guests_can_unmute, opened, hosted, seen) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            page.conference.to_string(),
            page.service,
            locked,
            guests_muted,
            guests_can_unmute,
            opened,
            hosted,
            millis(now.wall)
        ])?;
    }
    let rows = |page: &Page| -> HashMap<Uuid, (usize, LeftParty, Named)> {
        let parties = page.left.parties.iter().zip(&page.names).enumerate();
        parties.map(|(place, (party, named))| (named.uuid, (place, *party, named.clone()))).collect()
    };
    let (old, new) = (before.map(rows).unwrap_or_default(), rows(page));
    let mut remove = to.prepare_cached("DELETE FROM parties WHERE uuid = ?")?;
    for uuid in old.keys().filter(|uuid| !new.contains_key(uuid)) {
        remove.execute([uuid.to_string()])?;
    }
    let mut insert = to.prepare_cached(
        "INSERT OR REPLACE INTO parties \
         (uuid, conference, name, host, waiting, muted, muted_by_host, hand, spotlight, since, place, slides) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for (uuid, row) in new.iter().filter(|(uuid, row)| old.get(uuid) != Some(row)) {
        let (place, party, named) = row;
        // Of moments their order is kept: clocks begin anew.
        let order = |at: Option<Instant>| at.map(|at| in_millis(now, at));
        insert.execute(params![
            uuid.to_string(),
            page.conference.to_string(),
            named.name,
            party.role == Role::Host,
            party.place == Place::Waiting,
            party.muted.himself,
            party.muted.by_host,
            order(party.hand),
            order(party.spotlight),
            millis(named.since),
            i64::try_from(*place).unwrap_or(i64::MAX),
            party.slides,
        ])?;
    }
    Ok(())
}

fn delete(from: &Transaction<'_>, conference: Uuid) -> rusqlite::Result<()> {
    let id = conference.to_string();
    from.execute("DELETE FROM parties WHERE conference = ?", [&id])?;
    from.execute("DELETE FROM conferences WHERE id = ?", [&id])?;
    Ok(())
}

pub(super) fn token(
    to: &Transaction<'_>,
    party: Uuid,
    (hash, life): (TokenHash, Duration),
    before: Option<(TokenHash, Duration)>,
    now: Now,
) -> rusqlite::Result<()> {
    let until = |life| millis(now.wall + life);
    to.prepare_cached("INSERT OR REPLACE INTO client_tokens (hash, party, until) VALUES (?, ?, ?)")?
        .execute(params![hash, party.to_string(), until(life)])?;
    if let Some((hash, grace)) = before {
        to.prepare_cached("UPDATE client_tokens SET until = min(until, ?) WHERE hash = ?")?
            .execute(params![until(grace), hash])?;
    }
    to.prepare_cached("DELETE FROM client_tokens WHERE party = ? AND until <= ?")?
        .execute(params![party.to_string(), millis(now.wall)])?;
    Ok(())
}

pub(super) fn forget(from: &Transaction<'_>, party: Uuid) -> rusqlite::Result<()> {
    let forget = from.prepare_cached("DELETE FROM client_tokens WHERE party = ?");
    forget?.execute([party.to_string()]).map(|_| ())
}

/// What is there is alive; tokens that nobody has refreshed are not.
pub(super) fn seen(to: &Transaction<'_>, now: Now) -> rusqlite::Result<()> {
    to.execute("UPDATE conferences SET seen = ?", [millis(now.wall)])?;
    to.execute("DELETE FROM client_tokens WHERE until <= ?", [millis(now.wall)])?;
    Ok(())
}

pub(super) fn clear(all: &Transaction<'_>) -> rusqlite::Result<()> {
    all.execute_batch("DELETE FROM client_tokens; DELETE FROM parties; DELETE FROM conferences;")
}

/// Everything that stands; what does not is deleted. A wall clock that was set back never extends a
/// life: none is longer than that of a new token.
pub(super) fn recall(
    from: &Transaction<'_>,
    now: Now,
    mut number: impl FnMut() -> PartyId,
) -> rusqlite::Result<Vec<Found>> {
    let at = millis(now.wall);
    let most = i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX);
    let left = |until: i64| Duration::from_millis(until.saturating_sub(at).clamp(0, most).unsigned_abs());
    from.execute("DELETE FROM client_tokens WHERE until <= ?", [at])?;
    from.execute("DELETE FROM parties WHERE uuid NOT IN (SELECT party FROM client_tokens)", [])?;
    let mut found = Vec::new();
    let mut conferences = from.prepare(
        "SELECT id, service, locked, guests_muted, guests_can_unmute, opened, hosted, seen FROM conferences \
         ORDER BY seen DESC",
    )?;
    let mut rows = conferences.query([])?;
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let Some(conference) = Uuid::parse(&id) else { continue };
        let left_over = Left {
            locked: row.get(2)?,
            guests_muted: row.get(3)?,
            guests_can_unmute: row.get(4)?,
            opened: row.get(5)?,
            hosted: row.get(6)?,
            parties: Vec::new(),
        };
        let stands = left(row.get::<_, i64>(7)?.saturating_add(most));
        let page = Page { conference, service: row.get(1)?, left: left_over, names: Vec::new() };
        found.push(Found { page, stands, tokens: Vec::new() });
    }
    for found in &mut found {
        parties(from, found, now, &mut number)?;
        tokens(from, found, &left)?;
    }
    // A service has one conference: the one that was seen last.
    let mut services = std::collections::HashSet::new();
    found.retain(|it| {
        let stands = !it.page.left.parties.is_empty() || !it.page.left.is_plain() && !it.stands.is_zero();
        stands && services.insert(it.page.service.clone())
    });
    let kept: std::collections::HashSet<String> =
        found.iter().map(|it| it.page.conference.to_string()).collect();
    let mut all = from.prepare("SELECT id FROM conferences UNION SELECT conference FROM parties")?;
    let ids = all.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    for id in ids.iter().filter(|id| !kept.contains(*id)) {
        from.execute("DELETE FROM parties WHERE conference = ?", [id])?;
        from.execute("DELETE FROM conferences WHERE id = ?", [id])?;
    }
    from.execute("DELETE FROM client_tokens WHERE party NOT IN (SELECT uuid FROM parties)", [])?;
    Ok(found)
}

fn parties(
    from: &Transaction<'_>,
    found: &mut Found,
    now: Now,
    number: &mut impl FnMut() -> PartyId,
) -> rusqlite::Result<()> {
    let mut statement = from.prepare_cached(
        "SELECT uuid, name, host, waiting, muted, muted_by_host, hand, spotlight, since, slides FROM parties \
         WHERE conference = ? ORDER BY place",
    )?;
    let mut rows = statement.query([found.page.conference.to_string()])?;
    while let Some(row) = rows.next()? {
        let Some(uuid) = Uuid::parse(&row.get::<_, String>(0)?) else { continue };
        let order = |column| {
            let at = row.get::<_, Option<i64>>(column)?;
            Ok::<_, rusqlite::Error>(at.map(|at| crate::registrar::from_millis(now, at)))
        };
        found.page.left.parties.push(LeftParty {
            id: number(),
            role: if row.get(2)? { Role::Host } else { Role::Guest },
            place: if row.get(3)? { Place::Waiting } else { Place::In },
            muted: Muted { himself: row.get(4)?, by_host: row.get(5)? },
            hand: order(6)?,
            spotlight: order(7)?,
            slides: row.get(9)?,
        });
        let since = Duration::from_millis(row.get::<_, i64>(8)?.unsigned_abs());
        let since = SystemTime::UNIX_EPOCH + since;
        found.page.names.push(Named { uuid, name: row.get(1)?, since });
    }
    Ok(())
}

fn tokens(
    from: &Transaction<'_>,
    found: &mut Found,
    left: &impl Fn(i64) -> Duration,
) -> rusqlite::Result<()> {
    let mut statement = from.prepare_cached("SELECT hash, until FROM client_tokens WHERE party = ?")?;
    for named in &found.page.names {
        let mut rows = statement.query([named.uuid.to_string()])?;
        while let Some(row) = rows.next()? {
            found.tokens.push((named.uuid, row.get(0)?, left(row.get(1)?)));
        }
    }
    Ok(())
}
