//! Who is in which wave.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sloth_core::{AgentId, Millis};
use sloth_protocol::{
    rollout::{Cuts, Spec, SpecError, learned},
    wire::{Approval, Share, WaveMembers, WaveSpec},
};

use super::{host, read, share, spec, wave};

fn shares(text: &str) -> Spec {
    read(&spec(text.split(',').map(|text| wave(share(text), Millis::ZERO)).collect()))
}

/// The sizes of the waves of so many hosts.
fn sizes(waves: &str, hosts: u64) -> Vec<usize> {
    let spec = shares(waves);
    let ids = (0..hosts).map(host);
    let cuts = Cuts::settle(&spec, Cuts::salt("a", "b", 1), ids.clone(), |_, _| false);
    let mut sizes = vec![0; spec.waves.len()];
    ids.for_each(|id| sizes[cuts.wave_of(&spec, id, |_| false)] += 1);
    sizes
}

#[test]
fn shares_are_over_all_hosts_and_rounded_up() {
    for (waves, hosts, expected) in [
        ("1%,10%,50%,100%", 1000, vec![10, 90, 400, 500]),
        ("1%,10%,50%,100%", 6, vec![1, 0, 2, 3]),
        ("1,3,100%", 6, vec![1, 2, 3]),
        ("5,100%", 3, vec![3, 0]),
        ("100%", 1, vec![1]),
    ] {
        assert_eq!(sizes(waves, hosts), expected, "{waves} of {hosts}");
    }
}

#[test]
fn labelled_waves_take_theirs_first_wherever_they_stand() {
    let canary = WaveSpec {
        members: WaveMembers::Labelled("canary".to_owned()),
        soak: Millis::ZERO,
        approval: Approval::NotNeeded,
    };
    let waves = vec![wave(share("50%"), Millis::ZERO), canary, wave(share("100%"), Millis::ZERO)];
    let spec = read(&spec(waves));
    let canaries: BTreeSet<AgentId> = (0..4).map(host).collect();
    let ids = (0..24).map(host);
    let cuts = Cuts::settle(&spec, Cuts::salt("a", "b", 1), ids.clone(), |_, id| canaries.contains(&id));
    let mut sizes = [0; 3];
    ids.for_each(|id| sizes[cuts.wave_of(&spec, id, |_| canaries.contains(&id))] += 1);
    assert_eq!(sizes, [10, 4, 10]);
}

#[test]
fn another_rollout_begins_with_others() {
    let spec = shares("1%,100%");
    let first = |counter| {
        let ids = (0..10_000).map(host);
        let cuts = Cuts::settle(&spec, Cuts::salt("web", "web", counter), ids.clone(), |_, _| false);
        ids.filter(|id| cuts.wave_of(&spec, *id, |_| false) == 0).collect::<BTreeSet<_>>()
    };
    let (one, two) = (first(1), first(2));
    assert_eq!((one.len(), two.len()), (100, 100));
    assert!(one.intersection(&two).count() < 10, "the same hosts are first again");
    assert_eq!(one, first(1));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |waves: &str| {
        let waves = waves.split(',').map(|text| wave(share(text), Millis::ZERO)).collect();
        Spec::new(&spec(waves)).expect_err("refused")
    };
    assert_eq!(refused("10%,5%,100%"), SpecError::Falling { share: Share::Hundredths(500) });
    assert_eq!(refused("10,10,100%"), SpecError::Falling { share: Share::Count(10) });
    assert_eq!(refused("10%,50%"), SpecError::Open);
    assert_eq!(refused("10%,101%"), SpecError::Part { share: Share::Hundredths(10_100) });
    assert_eq!(Spec::new(&spec(Vec::new())), Err(SpecError::Waves { waves: 0 }));
    let mut nameless = spec(vec![wave(share("100%"), Millis::ZERO)]);
    nameless.name = "a b".to_owned();
    assert!(matches!(Spec::new(&nameless), Err(SpecError::Name { .. })));
}

#[test]
fn a_rhythm_follows_what_is_usual_and_not_an_absence() {
    let secs = Millis::from_secs;
    let after = |pauses: &[u64]| pauses.iter().fold(None, |rhythm, pause| Some(learned(rhythm, secs(*pause))));
    assert_eq!(after(&[60]), Some(secs(60)));
    assert_eq!(after(&[60, 66, 55]), Some(secs(66) - Millis::from_u64(66_000 / 8)));
    // A week away is no rhythm of a week.
    assert!(after(&[60, 7 * 24 * 3600]).is_some_and(|rhythm| rhythm < secs(91)));
    // An agent that was told to ask less often is believed after a few polls.
    assert_eq!(after(&[60, 600, 600, 600, 600, 600, 600, 600]), Some(secs(600)));
}

proptest! {
    /// A host keeps its wave, whoever else comes or goes, once the waves are settled.
    #[test]
    fn membership_is_stable(seed in any::<u64>(), hosts in 1_u64..300, later in 0_u64..300) {
        let spec = shares("3,10%,40%,100%");
        let id = |number: u64| host(seed.wrapping_add(number));
        let cuts = Cuts::settle(&spec, Cuts::salt("a", "b", seed), (0..hosts).map(id), |_, _| false);
        let again = Cuts::settled(Cuts::salt("a", "b", seed), cuts.last().to_vec());
        for number in 0..hosts + later {
            let wave = cuts.wave_of(&spec, id(number), |_| false);
            prop_assert_eq!(wave, again.wave_of(&spec, id(number), |_| false));
            prop_assert!(wave < spec.waves.len());
        }
    }
}
