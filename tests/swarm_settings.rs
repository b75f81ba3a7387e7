//! Settings as text: `--set KEY=VALUE`, and what is refused.

use model_swarms::error::Error;
use model_swarms::swarm::settings::{Populate, Randomness, Restart};
use model_swarms::swarm::{Mode, Settings};

fn refusal(key: &str, value: &str) -> String {
    match Settings::paper().set(key, value) {
        Err(Error::Usage(what)) => what,
        other => panic!("{key}={value}: {other:?}"),
    }
}

#[test]
fn fields_are_set_by_name() {
    // Broken: `--set` would not reach the search.
    let mut settings = Settings::new(Mode::Paper);
    settings.set("particles", "15").unwrap();
    settings.set("step", "1").unwrap();
    settings.set("repel", "0.01").unwrap();
    settings.set("populate", "off").unwrap();
    settings.set("restart", "before-move").unwrap();
    settings.set("randomness", "annealed-literal").unwrap();
    settings.set("draws", "authors-42").unwrap();
    let wanted = Settings {
        particles: 15,
        step: 1.0,
        repel: 0.01,
        populate: Populate::Off,
        restart: Restart::BeforeMove,
        randomness: Randomness::AnnealedLiteral,
        draws: Settings::code().draws,
        ..Settings::paper()
    };
    assert_eq!(settings, wanted);
}

#[test]
fn what_cannot_be_set_is_named() {
    // Broken: a misspelt setting would be ignored.
    let what = refusal("particels", "20");
    assert!(what.contains("\"particels\"") && what.contains("particles, velocity"), "{what}");
    assert!(refusal("particles", "many").contains("setting particles: \"many\""));
    assert!(refusal("particles", "1.5").contains("setting particles"));
    assert!(refusal("step", "nan").contains("not a finite number"));
    assert!(refusal("populate", "yes").contains("`off`, `experts`"));
}

#[test]
fn impossible_settings_are_refused() {
    // Broken: a search would loop for ever, divide by nothing or lack experts.
    let refused = |key: &str, value: &str, n_experts: usize| {
        let mut settings = Settings::paper();
        settings.set(key, value).unwrap();
        assert!(matches!(settings.check(n_experts), Err(Error::Usage(_))), "{key}={value}");
    };
    refused("particles", "9", 10);
    refused("particles", "100000", 10);
    refused("particles", "20", 1);
    refused("particles", "20", 0);
    refused("inertia", "-0.1", 10);
    refused("step", "-1", 10);
    refused("drop_iterations", "1.5", 10);
    refused("drop_particles", "-0.5", 10);
    refused("patience", "0", 10);
    refused("restart_after", "0", 10);
    let alone = Settings { populate: Populate::Off, ..Settings::code() };
    assert!(matches!(alone.check(1), Err(Error::Usage(_))), "no other particle to aim at");
    assert!(Settings { populate: Populate::Off, ..Settings::paper() }.check(1).is_ok());
    assert!(Settings::paper().check(10).is_ok() && Settings::code().check(10).is_ok());
}

#[test]
fn settings_survive_a_file_and_unknown_fields_do_not() {
    // Broken: run.toml would not rebuild its run.
    for settings in [Settings::paper(), Settings::code()] {
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings);
        assert!(toml::from_str::<Settings>(&format!("{text}speed = 1\n")).is_err());
    }
}
