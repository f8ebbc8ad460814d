//! Contenders that take turns, so that a clock that moves, moves for all of them.

unsafe extern "C" {
    fn peer_cpu_nanos() -> u64;
}

/// Turns of each contender. Odd, so that the median is one of them.
const ROUNDS: usize = 41;
/// What one turn shall last: long against the clock's resolution, short against a time slice.
const TURN_NANOS: u64 = 400_000;

/// One way to do the work.
pub struct Contender<'a> {
    name: String,
    work: Box<dyn FnMut() + 'a>,
    /// Calls in one turn.
    calls: u32,
    nanos: Vec<f64>,
}

impl<'a> Contender<'a> {
    /// `work` is one call, done many times.
    pub fn new(name: impl Into<String>, work: impl FnMut() + 'a) -> Self {
        Self { name: name.into(), work: Box::new(work), calls: 1, nanos: Vec::new() }
    }

    /// Nanoseconds of this thread: what others do on the machine does not count.
    fn turn(&mut self) -> u64 {
        let begun = cpu_nanos();
        for _ in 0..self.calls {
            (self.work)();
        }
        cpu_nanos() - begun
    }

    fn calibrate(&mut self) {
        while self.turn() < TURN_NANOS && self.calls < 1 << 24 {
            self.calls *= 2;
        }
    }
}

/// What this thread has used.
pub fn cpu_nanos() -> u64 {
    // SAFETY: takes nothing.
    unsafe { peer_cpu_nanos() }
}

/// Runs them in turns and prints the median of each, divided by `units`, and its ratio to the
/// first, the yardstick: the median of the ratios of each round.
pub fn race(title: &str, units: f64, mut contenders: Vec<Contender<'_>>) {
    contenders.iter_mut().for_each(Contender::calibrate);
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            let nanos = contender.turn() as f64 / f64::from(contender.calls);
            contender.nanos.push(nanos);
        }
    }
    let yardstick = contenders[0].nanos.clone();
    for contender in &contenders {
        let ratios = contender.nanos.iter().zip(&yardstick).map(|(a, b)| a / b).collect();
        let (ratio, nanos) = (median(ratios), median(contender.nanos.clone()) / units);
        println!("{title:32} {:24} {nanos:12.1} ns {ratio:8.2}", contender.name);
    }
}

/// The middle one of an odd number.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
