use super::*;

/// Columns of `mask` with ink in them.
fn inked(mask: &Mask) -> Vec<bool> {
    (0..mask.width).map(|x| mask.cover.iter().skip(x).step_by(mask.width).any(|it| *it > 40)).collect()
}

/// Separate runs of inked columns: letters, where they do not touch.
fn runs(mask: &Mask) -> usize {
    let columns = inked(mask);
    let begins = columns.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    begins + usize::from(columns.first() == Some(&true))
}

#[test]
fn letters_stand_on_their_base_line() {
    let mut text = Typesetter::new();
    let capital = text.line("H", 100, 1_000);
    assert!((capital.baseline - 71).abs() <= 1 && capital.height.abs_diff(71) <= 2, "{capital:?}");
    let descends = text.line("p", 100, 1_000);
    assert!(descends.height as isize > descends.baseline + 15, "{descends:?}");
}

#[test]
fn latin_cyrillic_and_arabic_are_drawn() {
    let mut text = Typesetter::new();
    for name in ["Zoë Łukasz Ðặng", "Анна Ковальчук", "محمد علي", "Νίκος"] {
        assert_eq!(text.tidy(name), name);
        let mask = text.line(name, 40, 1_000);
        assert!(mask.width > 60 && mask.cover.contains(&255), "{name}: {mask:?}");
    }
}

#[test]
fn arabic_letters_join() {
    let mut text = Typesetter::new();
    let joined = text.line("سسسس", 60, 1_000);
    let apart = text.line("س س س س", 60, 1_000);
    assert_eq!((runs(&joined), runs(&apart)), (1, 4));
}

#[test]
fn what_does_not_fit_gives_way_to_an_ellipsis() {
    let mut text = Typesetter::new();
    let name = "Bartholomew Featherstonehaugh-Cholmondeley the Elder";
    let (whole, cut) = (text.line(name, 20, 2_000), text.line(name, 20, 150));
    assert!(whole.width > 400 && cut.width <= 152 && cut.width > 110, "{whole:?} {cut:?}");
    // The dots stand on the base line at the right end.
    let dots = |mask: &Mask, columns: std::ops::Range<usize>| {
        let high = usize::try_from(mask.baseline - 5).unwrap();
        mask.cover[..high * mask.width]
            .chunks(mask.width)
            .all(|row| row[columns.clone()].iter().all(|it| *it < 40))
    };
    assert!(dots(&cut, cut.width - 12..cut.width) && !dots(&cut, 0..12));
    // At the left end where the text runs to the left.
    let arabic = text.line("عبد الرحمن بن محمد الخوارزمي القرطبي", 20, 150);
    assert!(arabic.width <= 152, "{arabic:?}");
    assert!(dots(&arabic, 0..12) && !dots(&arabic, arabic.width - 12..arabic.width));
}

#[test]
fn no_room_and_no_text_are_empty_or_small() {
    let mut text = Typesetter::new();
    assert!(text.line("", 20, 100).is_empty());
    assert!(text.line("🚀\u{0}", 20, 100).is_empty());
    for room in [0, 1, 5] {
        assert!(text.line("Ada", 20, room).width < 40);
    }
}

#[test]
fn any_text_is_survived() {
    let mut text = Typesetter::new();
    for name in [
        "שלום abc محمد 123 (x)",
        "a\u{301}\u{302}\u{303}\u{304}\u{305}",
        "\u{202e}evil\u{202c}",
        "\u{fdfa}\u{fdfd}",
        "\n\n\n",
        "👨‍👩‍👧‍👦",
        "𝕬𝖇",
        &"م".repeat(10_000),
        &"W ".repeat(10_000),
    ] {
        let mask = text.line(name, 24, 300);
        assert!(mask.width <= 330 && mask.height <= 100, "{name:.20}: {mask:?}");
    }
}

#[test]
fn masks_are_kept_up_to_a_bound() {
    let mut text = Typesetter::new();
    let first = text.line("Ada", 20, 100);
    assert!(Arc::ptr_eq(&first, &text.line("  Ada ", 20, 100)));
    assert_eq!(text.counts(), TextCounts { found: 1, drawn: 1, dropped: 0 });
    for n in 0..MAX_MASKS {
        text.line(&n.to_string(), 10, 100);
        text.line("Ada", 20, 100);
    }
    assert_eq!(text.masks.len(), MAX_MASKS);
    assert_eq!(text.counts().dropped, 1);
    assert!(Arc::ptr_eq(&first, &text.line("Ada", 20, 100)), "what is used stays");
}

#[test]
fn a_font_that_is_added_draws_what_was_left_out() {
    let mut text = Typesetter::new();
    assert_eq!(text.tidy("李小龙 Lee"), "Lee");
    assert_eq!(text.add_font(b"no font".to_vec()), Err(FontError::NoFont));
    let few = include_bytes!("../../../../fixtures/fonts/NotoSansCJK-few.otf");
    text.add_font(few.to_vec()).unwrap();
    assert_eq!(text.tidy("李小龙 Lee"), "李小龙 Lee");
    let mask = text.line("李小龙", 40, 300);
    assert!((100..=122).contains(&mask.width), "{mask:?}");
    for _ in 1..MAX_FONTS {
        text.add_font(few.to_vec()).unwrap();
    }
    assert_eq!(text.add_font(few.to_vec()), Err(FontError::TooMany));
}
