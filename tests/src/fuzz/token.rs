//! Join tokens, as people paste them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sloth_core::{Digest, Millis, TokenId};
use sloth_protocol::wire::{JoinToken, TOKEN_CHARS_MAX, TokenSecret};
use sloth_trust::RootPin;

use super::{Seed, Verdict, told};

/// How every token begins.
const PREFIX: &str = "sloth-join-1.";
const CHECKSUM_BYTES: usize = 4;
/// What a reader may count on: no token asks for more attempts than these.
const ADDRESSES_MAX: usize = 8;

/// Reads what follows the first byte of `bytes`: as text where that is even, else as a token's content, to which
/// the checksum is added that an input can hardly have by chance.
///
/// # Panics
///
/// When an accepted token is over a bound, does not survive its text, or shows its secret.
pub fn run(bytes: &[u8]) -> Verdict {
    let Some((form, rest)) = bytes.split_first() else { return Verdict::Refused };
    let text = if form % 2 == 0 { String::from_utf8_lossy(rest).into_owned() } else { with_checksum(rest) };
    let parsed = text.parse::<JoinToken>();
    let verdict = Verdict::from(&parsed);
    match parsed {
        Ok(token) => check(&token, text.trim()),
        Err(error) => drop(told(&error)),
    }
    verdict
}

fn check(token: &JoinToken, text: &str) {
    assert!(text.len() <= TOKEN_CHARS_MAX);
    assert!((1..=ADDRESSES_MAX).contains(&token.addresses.len()));
    let again = token.to_string();
    assert!(again.len() <= text.len(), "the canonical form is the shortest");
    assert_eq!(again.parse().as_ref(), Ok(token));
    assert!(format!("{token:?}").contains("secret: (secret)"), "a log would show it");
}

fn with_checksum(content: &[u8]) -> String {
    let digest = Digest::of(content);
    let bytes = [content, &digest.as_bytes()[..CHECKSUM_BYTES]].concat();
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn seeds() -> Vec<Seed> {
    let token = |addresses: &[&str]| JoinToken {
        id: TokenId::new(Millis::from_secs(1_700_000_000), 7),
        secret: TokenSecret::from_bytes([3; 32]),
        addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
        authority: [1; 32],
        root: RootPin::of(b"root"),
    };
    let as_text = |token: &JoinToken| [&[0], token.to_string().as_bytes()].concat();
    let content = |token: &JoinToken| {
        let text = token.to_string();
        let bytes = URL_SAFE_NO_PAD.decode(&text[PREFIX.len()..]).expect("base 64");
        [&[1], &bytes[..bytes.len() - CHECKSUM_BYTES]].concat()
    };
    let (one, three) = (token(&["coord.example.org:7461"]), token(&["10.0.0.1:7461", "[::1]:7461", "coord:1"]));
    vec![
        Seed::accepted("text", as_text(&one)),
        Seed::accepted("one-address", content(&one)),
        Seed::accepted("three-addresses", content(&three)),
        Seed::refused("no-address", content(&token(&[]))),
        Seed::refused("nine-addresses", content(&token(&["a:1"; ADDRESSES_MAX + 1]))),
        Seed::refused(
            "damaged",
            as_text(&one).iter().map(|byte| if *byte == b'A' { b'B' } else { *byte }).collect::<Vec<_>>(),
        ),
    ]
}
