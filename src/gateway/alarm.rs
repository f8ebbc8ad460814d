//! Looks once a second what is wrong with the gateway, and tells it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crosspoint_gateway::alarms::{Alarm, Alarms};
use crosspoint_gateway::events::{Events, What};
use crosspoint_gateway::media::EngineHandle;

use super::View;

/// How often it is looked: no alarm is told more often.
const LOOK: Duration = Duration::from_secs(1);

/// Until it is aborted.
pub(super) async fn watch(view: Arc<View>, events: Events) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut alarms, mut failed) = (Alarms::default(), 0);
    loop {
        tick.tick().await;
        let now = view.look(&mut failed);
        for (alarm, raised) in alarms.look(now.iter().copied()) {
            if raised {
                tracing::error!(alarm = alarm.word(), "{}", alarm.text());
            } else {
                tracing::info!(alarm = alarm.word(), "it is over");
            }
            let what = What::Alarm { alarm: alarm.word(), raised, text: alarm.text() };
            events.tell(view.clock.both().wall, what);
        }
        *view.alarms.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl View {
    /// What stood at the last look.
    pub(super) fn alarms(&self) -> Vec<Alarm> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong now. `failed` counts the connections that had no descriptor, to see whether there
    /// are more.
    fn look(&self, failed: &mut u64) -> Vec<Alarm> {
        let mut stands = |alarm: &Alarm| match alarm {
            Alarm::Disk => self.registrar.is_failing() || self.records.is_failing(),
            Alarm::Ports => self.media.pairs_in_use() >= self.config.load().media.ports.pairs(),
            Alarm::Engine => self.engines.iter().all(EngineHandle::is_full),
            Alarm::Descriptors => {
                let now = self.signalling.accept_errors.count() + self.web_stats.accept_errors.count();
                std::mem::replace(failed, now) < now
            }
        };
        Alarm::ALL.into_iter().filter(|alarm| stands(alarm)).collect()
    }
}
