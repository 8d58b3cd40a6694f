//! A small repository with keys that everyone knows.

use std::{collections::BTreeMap, sync::LazyLock};

use sloth_core::{AgentId, Digest, Millis, RepositoryId, RunId, Secret};
use sloth_trust::{
    Assignment, BundleMetadata, Domain, Envelope, Head, ManifestRef, RoleKeys, Roles, Root, RootPin, RootRef, SPEC,
    Tree, Trigger, Trusted,
    sign::{SecretKey, open, public_key, sign},
};

/// The time of everything here.
pub(super) const NOW: Millis = Millis::from_secs(1_700_000_000);
/// When it all expires.
const LATER: Millis = Millis::from_secs(1_800_000_000);

/// Signs roots, assignments and the bundles `web-*`. A key of nothing but these tests.
const MAIN_KEY: &str = "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAKv8AdoZCPTz47R5v+VMrPBoQVbVxySkavLho4d0yonBbp/LQm9QwzvxmViuZYBlWBrE4YgDU4cPj+oluqs7+vQKiHahmUe9bqa2amNZ9Lgu8eZaWMMOEUmd6EspQvNkW3I2q5a8yO9k=";
/// Signs the bundle `db`.
const OTHER_KEY: &str = "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAATdiPqIUBaHwlLYxMMLT/d9y/fr6NFuSkb0INHTAsb7XyeVGHVksmBFuS7J0rLXROAedH9q6nWEieg1udGAjbH++igG/hOoyud3nWe1uXpxnd3Vp1PBBDDG8voX74dLRpYe2I4ZXloWU=";

/// The repository.
pub(super) struct Repository {
    pub(super) main_key: SecretKey,
    pub(super) root: Root,
    pub(super) trusted: Trusted,
    /// Everything that was ever signed, as it was signed. Whatever else is accepted is a forgery.
    pub(super) signed: Vec<Envelope>,
}

/// The repository, made once.
pub(super) static REPOSITORY: LazyLock<Repository> = LazyLock::new(make);

fn make() -> Repository {
    let (main_key, other_key) = (key(MAIN_KEY), key(OTHER_KEY));
    let pattern = |text: &str| text.parse().expect("a pattern");
    let bundles = BTreeMap::from([(pattern("web-*"), role(&main_key)), (pattern("db"), role(&other_key))]);
    let roles = Roles {
        root: role(&main_key),
        releases: None,
        bundles,
        head: Some(role(&main_key)),
        assignment: Some(role(&main_key)),
    };
    let root =
        Root { spec: SPEC, repository: RepositoryId::new(NOW, 1), version: 1, issued: NOW, expires: LATER, roles };
    let next = Root { version: 2, ..root.clone() };
    // The corpus has roots that name nobody for heads.
    let headless = |root: &Root| Root { roles: Roles { head: None, ..root.roles.clone() }, ..root.clone() };
    let (old, old_next) = (headless(&root), headless(&next));
    let (web, db) = (metadata(&root, "web-shop"), metadata(&root, "db"));
    let (work, head) = (assignment(), head(&root));
    let by = |domain: &Domain, key: &SecretKey, signed: Result<Envelope, _>| -> Envelope {
        let envelope = signed.map_err(|error: sloth_trust::sign::SignError| error.to_string()).expect("signed");
        assert!(sloth_trust::verify_threshold(&role(key), &envelope, domain).is_ok(), "{domain}");
        envelope
    };
    let first = by(&root.domain(), &main_key, sign(&root, &root.domain(), &[&main_key]));
    let trusted = Trusted::new(&first, RootPin::of(&first.payload)).expect("the repository's own root");
    let work_domain = work.domain(root.repository);
    let signed = vec![
        first,
        by(&next.domain(), &main_key, sign(&next, &next.domain(), &[&main_key])),
        by(&old.domain(), &main_key, sign(&old, &old.domain(), &[&main_key])),
        by(&old_next.domain(), &main_key, sign(&old_next, &old_next.domain(), &[&main_key])),
        by(&web.domain(), &main_key, sign(&web, &web.domain(), &[&main_key])),
        by(&db.domain(), &other_key, sign(&db, &db.domain(), &[&other_key])),
        by(&work_domain, &main_key, sign(&work, &work_domain, &[&main_key])),
        by(&head.domain(), &main_key, sign(&head, &head.domain(), &[&main_key])),
    ];
    Repository { main_key, root, trusted, signed }
}

/// A release of the bundle `name`.
pub(super) fn metadata(root: &Root, name: &str) -> BundleMetadata {
    BundleMetadata {
        spec: SPEC,
        repository: root.repository,
        name: name.parse().expect("a name"),
        counter: 5,
        version: "1.4.0".to_owned(),
        manifest: ManifestRef { digest: Digest::of(b"manifest"), length: 8 },
        audience: "role in (web, db),!old".parse().expect("a selector"),
        capabilities: vec!["exec".to_owned()],
        triggers: vec![Trigger::Manual],
        parameters: None,
        expires: LATER,
        published: NOW,
    }
}

/// What is the newest, with no release.
pub(super) fn head(root: &Root) -> Head {
    let payload = serde_json::to_vec(root).expect("a root");
    Head {
        spec: SPEC,
        repository: root.repository,
        version: NOW.as_u64(),
        previous: None,
        root: RootRef::of(root.version, &payload),
        releases: Tree::new::<[u8; 0]>([]).head(),
        issued: NOW,
        expires: LATER,
    }
}

/// Work for [`agent`].
pub(super) fn assignment() -> Assignment {
    Assignment {
        spec: SPEC,
        agent: agent(),
        run: RunId::new(NOW, 3),
        bundle: "web-shop".parse().expect("a name"),
        counter: 5,
        manifest: Digest::of(b"manifest"),
        workflow: Some("main".to_owned()),
        values: serde_json::Map::from_iter([("replicas".to_owned(), 3.into())]),
        not_before: NOW,
        deadline: LATER,
        nonce: 9,
    }
}

/// The host that reads it all.
pub(super) fn agent() -> AgentId {
    AgentId::new(NOW, 2)
}

fn key(line: &str) -> SecretKey {
    open(&Secret::new(format!("untrusted comment: a key for tests\n{line}\n")), None).expect("a key")
}

fn role(key: &SecretKey) -> RoleKeys {
    RoleKeys::new(vec![public_key(key).expect("a key")], 1).expect("a role")
}
