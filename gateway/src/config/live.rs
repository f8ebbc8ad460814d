//! The configuration of a gateway that runs, as it is read again and again.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Config;

/// What holds now. Clones are the same.
#[derive(Clone, Debug)]
pub struct LiveConfig(Arc<ArcSwap<Config>>);

impl LiveConfig {
    /// At the start.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// What holds now; it stays as it is for whoever has it.
    pub fn load(&self) -> Arc<Config> {
        self.0.load_full()
    }

    /// From now on.
    pub fn store(&self, config: Config) {
        self.0.store(Arc::new(config));
    }
}
