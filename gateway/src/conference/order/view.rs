//! Who sees whom: everybody but himself, by as few distinct pictures as that takes.

use crate::leg::LegId;

use super::Order;

/// Whether somebody who is seen sees himself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelfView {
    /// Never: his slot shows somebody else.
    #[default]
    Hidden,
    /// As everybody sees him: one picture for all.
    Shown,
}

/// One distinct picture and who looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who is seen, by slot.
    pub seated: Vec<LegId>,
    /// Who looks at it.
    pub viewers: Vec<LegId>,
}

impl Order {
    /// The pictures for `viewers`, each of whom is in exactly one of them. Who is not seen himself
    /// shares the picture of all the others like him; who is seen has one of his own, as nobody else
    /// lacks just him. Viewers need not be members: a recording sees what an unseen member sees.
    pub fn views(&self, viewers: &[LegId], own: SelfView) -> Vec<View> {
        let seated: Vec<LegId> = self.seated().collect();
        let mut shared = View { seated, viewers: Vec::new() };
        let mut views = Vec::new();
        for viewer in viewers {
            let place = shared.seated.iter().position(|it| it == viewer);
            match place.filter(|_| own == SelfView::Hidden) {
                Some(place) => views.push(View { seated: self.without(place), viewers: vec![*viewer] }),
                None => shared.viewers.push(*viewer),
            }
        }
        if !shared.viewers.is_empty() {
            views.insert(0, shared);
        }
        views
    }

    /// Who is seen by the one in the slot `place`. His place goes to the first who is not seen, else
    /// those behind him move up, which is the same move for as long as he sits there. In a main slot
    /// the last other speaker follows him.
    fn without(&self, place: usize) -> Vec<LegId> {
        let seats = self.seats();
        let mut places: Vec<usize> = (0..seats).collect();
        let mut gap = place;
        let mains = self.mains.max(self.pinned()).min(seats);
        if gap < mains
            && let Some(next) = self.latest(mains..self.members.len())
        {
            places[gap] = next;
            gap = next;
        }
        if gap < seats {
            match self.latest(seats..self.members.len()) {
                Some(next) => places[gap] = next,
                None => {
                    places.remove(gap);
                }
            }
        }
        places.into_iter().map(|at| self.members[at].leg).collect()
    }
}
