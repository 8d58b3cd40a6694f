use std::collections::BTreeSet;

use super::*;

const PLAIN: &[u8] = b"some bytes of some file, of some file, of some file";
const LENGTH: u64 = 51;

fn store() -> (tempfile::TempDir, ChunkStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = ChunkStore::open(dir.path()).expect("opened");
    (dir, store)
}

fn frame(plain: &[u8]) -> Vec<u8> {
    chunk::compress(Digest::of(plain), plain).expect("compressed")
}

#[test]
fn what_is_put_is_read() {
    let (_dir, store) = store();
    let digest = Digest::of(PLAIN);
    assert!(!store.has(digest));
    assert!(matches!(store.read(digest, LENGTH), Err(StoreError::Missing { .. })));
    store.put_frame(digest, LENGTH, &frame(PLAIN)).expect("kept");
    store.put_plain(digest, PLAIN).expect("kept again");
    assert_eq!(store.read(digest, LENGTH).expect("read"), PLAIN);
    assert_eq!(store.frame(digest, LENGTH).expect("read"), frame(PLAIN));
    let other = Chunk { digest: Digest::of(b"other"), length: 5 };
    assert_eq!(store.missing(&[Chunk { digest, length: 51 }, other]), [other]);
}

#[test]
fn what_is_not_what_its_name_says_is_not_kept() {
    let (_dir, store) = store();
    let digest = Digest::of(PLAIN);
    let cut = &frame(PLAIN)[..20];
    for refused in [
        store.put_plain(digest, b"other"),
        store.put_plain(digest, &vec![0; chunk::BLOB_BYTES_MAX + 1]),
        store.put_frame(digest, LENGTH, &frame(b"other")),
        store.put_frame(digest, LENGTH, cut),
        store.put_frame(digest, LENGTH - 1, &frame(PLAIN)),
        store.put_frame(digest, LENGTH, b"not zstd"),
    ] {
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    }
    assert!(!store.has(digest));
}

#[test]
fn a_wrong_length_costs_nobody_a_blob() {
    let (_dir, store) = store();
    let noise: Vec<u8> = (0_u32..2000).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for plain in [PLAIN, &noise] {
        let digest = Digest::of(plain);
        store.put_plain(digest, plain).expect("kept");
        let right = u64::try_from(plain.len()).expect("few");
        for length in [0, 1, right - 1, right + 1, u64::MAX] {
            let refused = store.read(digest, length);
            assert!(matches!(refused, Err(StoreError::OtherLength { .. })), "{length}: {refused:?}");
        }
        let refused = store.read_capped(digest, 1);
        assert!(matches!(refused, Err(StoreError::OtherLength { .. })), "{refused:?}");
        assert_eq!(store.read(digest, right).expect("still there"), plain);
    }
}

#[test]
fn what_is_damaged_is_put_again() {
    let (_dir, store) = store();
    let digest = Digest::of(PLAIN);
    store.put_plain(digest, PLAIN).expect("kept");
    fs::replace(&store.blob_path(digest), &frame(b"other"), Access::Owner).expect("damaged");
    assert!(store.has(digest) && !store.is_whole(digest));
    store.put_frame(digest, LENGTH, &frame(PLAIN)).expect("kept");
    assert_eq!(store.read(digest, LENGTH).expect("read"), PLAIN);
}

#[test]
fn what_is_damaged_on_disk_is_removed() {
    let (_dir, store) = store();
    let digest = Digest::of(PLAIN);
    let good = frame(PLAIN);
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for damaged in [&[][..], &good[..good.len() - 1], &flipped, &frame(b"other"), &vec![0; 10_000]] {
        store.put_plain(digest, PLAIN).expect("kept");
        fs::replace(&store.blob_path(digest), damaged, Access::Owner).expect("damaged");
        let error = store.read(digest, LENGTH).expect_err("damaged");
        assert!(error.to_string().ends_with("was removed: fetch it again"), "{error}");
        assert!(!store.has(digest));
    }
}

#[test]
fn a_download_goes_on_where_it_stopped() {
    let (dir, store) = store();
    let (digest, frame) = (Digest::of(PLAIN), frame(PLAIN));
    let (first, rest) = frame.split_at(10);
    assert_eq!(store.append_partial(digest, LENGTH, 0, first).expect("added"), 10);

    let store = ChunkStore::open(dir.path()).expect("opened again");
    let offset = store.partial_len(digest).expect("known");
    assert_eq!(offset, 10);
    for offset in [0, 9, 11] {
        let refused = store.append_partial(digest, LENGTH, offset, rest);
        assert!(matches!(refused, Err(StoreError::Offset { have: 10, .. })), "{refused:?}");
    }
    store.append_partial(digest, LENGTH, offset, rest).expect("added");
    store.finish_partial(digest, LENGTH).expect("whole");
    assert_eq!(store.read(digest, LENGTH).expect("read"), PLAIN);
    assert_eq!(store.partial_len(digest).expect("known"), 0);
    assert!(matches!(store.finish_partial(digest, LENGTH), Err(StoreError::Missing { .. })));
}

#[test]
fn a_bad_download_begins_again() {
    let (_dir, store) = store();
    let digest = Digest::of(PLAIN);
    store.append_partial(digest, LENGTH, 0, &frame(b"other")).expect("added");
    assert!(matches!(store.finish_partial(digest, LENGTH), Err(StoreError::Refused { .. })));
    assert_eq!((store.has(digest), store.partial_len(digest).expect("known")), (false, 0));
    let endless = store.append_partial(digest, LENGTH, 0, &[0; 10_000]);
    assert!(matches!(endless, Err(StoreError::DownloadTooLarge { .. })), "{endless:?}");
}

#[test]
fn what_was_not_used_for_longest_goes_first_and_what_is_pinned_stays() {
    let (_dir, store) = store();
    let digests: Vec<Digest> = (0..5_u8).map(|i| Digest::of(&[i; 100])).collect();
    for (i, digest) in (0_u8..).zip(&digests) {
        store.put_plain(*digest, &[i; 100]).expect("kept");
        store.touch([*digest], Millis::from_secs(1000 + u64::from(i))).expect("touched");
    }
    store.touch([digests[1], Digest::of(b"none")], Millis::from_secs(2000)).expect("touched");
    let used = store.evict(u64::MAX, &BTreeSet::new()).expect("counted").left;
    let each = used / 5;
    let pinned = BTreeSet::from([digests[0]]);
    let evicted = store.evict(each * 3, &pinned).expect("evicted");
    assert_eq!(evicted, Evicted { files: 2, bytes: each * 2, left: each * 3 });
    let left: Vec<bool> = digests.iter().map(|digest| store.has(*digest)).collect();
    assert_eq!(left, [true, true, false, false, true]);
    let evicted = store.evict(0, &pinned).expect("evicted");
    assert_eq!((evicted.files, evicted.left), (2, each));
    assert!(store.has(digests[0]));
}

#[test]
fn what_was_used_lately_or_is_pinned_stays() {
    let (_dir, store) = store();
    let digests: Vec<Digest> = (0..3_u8).map(|i| Digest::of(&[i])).collect();
    for (i, digest) in (0..3_u8).zip(&digests) {
        store.put_plain(*digest, &[i]).expect("kept");
        store.touch([*digest], Millis::from_secs(1000 + u64::from(i))).expect("touched");
    }
    let evicted = store.evict_unused(Millis::from_secs(1002), &BTreeSet::from([digests[0]])).expect("evicted");
    assert_eq!(evicted.files, 1);
    let left: Vec<bool> = digests.iter().map(|digest| store.has(*digest)).collect();
    assert_eq!(left, [true, false, true]);
}

#[test]
fn leftovers_are_swept() {
    let (_dir, store) = store();
    let digest = Digest::of(PLAIN);
    store.put_plain(digest, PLAIN).expect("kept");
    let shelf = store.blob_path(digest).parent().expect("has one").to_owned();
    fs::create_temporary(&shelf, Access::Owner).expect("left behind");
    store.append_partial(Digest::of(b"x"), 10, 0, b"abc").expect("added");
    assert_eq!(store.sweep(Millis::ZERO).expect("swept").files, 1);
    assert_eq!(store.partial_len(Digest::of(b"x")).expect("known"), 3);
    let swept = store.sweep(Millis::from_secs(100_000_000_000)).expect("swept");
    assert_eq!((swept.files, swept.bytes, store.has(digest)), (1, 3, true));
}
