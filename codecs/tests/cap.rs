//! A cap is for the whole process, so its test has a process to itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

use crosspoint_codecs::kernels::cpu::{CapError, Cpu, LEVELS};

#[test]
fn a_cap_rules_the_process_from_its_first_kernel_on() {
    let all = Cpu::available();
    let names = |levels: &[Cpu]| levels.iter().map(|cpu| cpu.name()).collect::<Vec<_>>();
    assert!(matches!(Cpu::cap("avx9"), Err(CapError::Unknown(_))));

    // The wrong word has chosen nothing, and neither have `available` and `capped`.
    Cpu::capped(LEVELS[0]).unwrap();
    assert_eq!(Cpu::cap("scalar").unwrap().name(), "scalar");
    assert_eq!(Cpu::detect().name(), "scalar");
    assert_eq!(Cpu::default().name(), "scalar");

    // Tests and benches see the machine, not the cap.
    assert_eq!(names(&Cpu::available()), names(&all));
    assert_eq!(Cpu::capped(LEVELS[0]).unwrap().name(), all[0].name());

    // The same again is no second choice; another is late.
    assert_eq!(Cpu::cap("scalar").unwrap().name(), "scalar");
    for best in all.iter().filter(|cpu| cpu.name() != "scalar") {
        let late = Cpu::cap(best.name()).unwrap_err();
        assert_eq!(late, CapError::Late { chosen: "scalar", wanted: best.name() });
        assert!(late.to_string().contains(best.name()), "{late}");
        assert_eq!(Cpu::detect().name(), "scalar");
    }
}
