//! The life of a gateway that runs as a program: what signals and the administrator's orders do to it.

use std::ffi::OsStr;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::time::Duration;

use crosspoint::Gateway;
use crosspoint_gateway::orders::{Order, Reloaded};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::Receiver;

use super::logging::Levels;
use super::run::Signals;
use super::{Failure, Setting, notify, reload};

/// What the end may take when somebody has asked twice.
const AT_ONCE: Duration = Duration::from_millis(800);

/// What it is made of.
pub(super) struct Host {
    gateway: Gateway,
    owner: Owner,
}

/// Who carries orders out.
struct Owner {
    setting: Setting,
    levels: Levels,
    signals: Signals,
    hangup: Signal,
    orders: Receiver<Order>,
}

impl Host {
    pub(super) fn new(
        setting: Setting,
        levels: Levels,
        gateway: Gateway,
        signals: Signals,
        hangup: Signal,
    ) -> Result<Self, Failure> {
        let orders = gateway.orders();
        let orders =
            orders.ok_or_else(|| Failure::Told("somebody else takes the gateway's orders".into()))?;
        Ok(Self { gateway, owner: Owner { setting, levels, signals, hangup, orders } })
    }

    /// Until somebody has it end, and to its end.
    pub(super) async fn run(self, manager: Option<&OsStr>) -> ExitCode {
        let Self { gateway, mut owner } = self;
        notify::tell(manager, notify::READY);
        let now = owner.until_told(&gateway).await;
        notify::tell(manager, notify::STOPPING);
        if !now {
            tracing::info!("a second signal stops at once");
            let hurried = tokio::select! {
                () = gateway.drain() => false,
                () = owner.until_hurried(&gateway) => true,
            };
            if hurried {
                return at_once(pin!(gateway.stop())).await;
            }
        }
        let mut stopping = pin!(gateway.stop());
        tokio::select! {
            () = &mut stopping => {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            }
            name = owner.signals.next() => {
                tracing::warn!(signal = name, "stopping at once");
                at_once(stopping).await
            }
        }
    }
}

impl Owner {
    /// Waits until somebody has the gateway end; true: without waiting for calls.
    async fn until_told(&mut self, gateway: &Gateway) -> bool {
        loop {
            tokio::select! {
                name = self.signals.next() => {
                    tracing::info!(signal = name, "stopping");
                    return false;
                }
                Some(()) = self.hangup.recv() => {
                    // What came of it is in the log.
                    let _ = self.reload(gateway).await;
                }
                Some(order) = self.orders.recv() => {
                    if let Some(now) = self.carry_out(order, gateway).await {
                        return now;
                    }
                }
            }
        }
    }

    /// Waits for whoever does not want to wait for calls.
    async fn until_hurried(&mut self, gateway: &Gateway) {
        while !self.until_told_once(gateway).await {}
        tracing::warn!("stopping at once");
    }

    async fn until_told_once(&mut self, gateway: &Gateway) -> bool {
        tokio::select! {
            _ = self.signals.next() => true,
            Some(order) = self.orders.recv() => self.carry_out(order, gateway).await == Some(true),
        }
    }

    /// Does what the administrator asks; where it is the end, whether at once. Who has asked may have gone
    /// away meanwhile: it is done all the same.
    async fn carry_out(&self, order: Order, gateway: &Gateway) -> Option<bool> {
        match order {
            Order::Stop { now, reply } => {
                let _ = reply.send(Ok(()));
                return Some(now);
            }
            Order::Reload { reply } => {
                let _ = reply.send(self.reload(gateway).await);
            }
            Order::Log { filter, reply } => {
                let _ = reply.send(self.levels.set(&filter));
            }
            _ => {}
        }
        None
    }

    /// Reads the file again. What is wrong with it is told and logged, and nothing changes.
    async fn reload(&self, gateway: &Gateway) -> Result<Reloaded, String> {
        let told = self.read_again(gateway).await;
        match &told {
            Ok(told) => tracing::info!(told = reload::in_words(told).trim_end(), "configuration read again"),
            Err(error) => tracing::error!(error, "the configuration was not taken; nothing has changed"),
        }
        told
    }

    async fn read_again(&self, gateway: &Gateway) -> Result<Reloaded, String> {
        let (file, data) = self.setting.asked.clone();
        let config = Setting::read(file, data).map_err(|failure| failure.to_string())?.config;
        let log = config.log.clone();
        let told = gateway.reload(config).await.map_err(|error| error.to_string())?;
        self.levels.configure(&log);
        Ok(told)
    }
}

/// Everybody is told goodbye; who does not answer is not waited for.
async fn at_once(stopping: Pin<&mut impl Future<Output = ()>>) -> ExitCode {
    if tokio::time::timeout(AT_ONCE, stopping).await.is_ok() {
        return ExitCode::SUCCESS;
    }
    tracing::warn!("stopped before everybody had answered the goodbye");
    ExitCode::FAILURE
}
