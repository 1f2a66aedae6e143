//! Two supervisors on one store.

use super::mirror::Mirror;
use super::*;
use supervisor_protocol::admin::KeptFor;

/// A store with `count` artifacts that nothing needs, the later ones newer.
async fn filled(mirror: &Mirror, folder: &TempDir, count: u8) -> (Store, Vec<Artifact>) {
    let store = open(folder);
    let mut all = Vec::new();
    for name in 0..count {
        let wanted = artifact(&[name; 9], &[mirror.body(&format!("/{name}"), &[name; 9])]);
        let installed = get(&store, &wanted, None).await.unwrap();
        let record = std::fs::File::open(installed.path.with_file_name("artifact.json")).unwrap();
        record.set_modified(SystemTime::now() - Duration::from_secs(1_000 - u64::from(name))).unwrap();
        all.push(wanted);
    }
    (store, all)
}

fn removed(report: &GcReport) -> Vec<Sha256> {
    report.removed.iter().map(|removed| removed.sha256).collect()
}

#[tokio::test]
async fn what_nothing_needs_is_removed_and_a_dry_run_only_says_so() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let (store, all) = filled(&mirror, &folder, 5).await;
    let mut oldest = vec![all[0].sha256, all[1].sha256];
    oldest.sort();
    let later = store.now().after(Duration::from_millis(1));
    let told = store.collect(Uses::new(), later, Mode::DryRun).await.unwrap();
    assert_eq!((removed(&told), told.kept.len(), names(&folder).len()), (oldest.clone(), 3, 5));
    // What was asked for since the uses were looked up stays.
    get(&store, &all[0], None).await.unwrap();
    let none = store.collect(Uses::new(), Tick::ZERO, Mode::Remove).await.unwrap();
    assert!(removed(&none).contains(&all[1].sha256) || none.kept.iter().any(|kept| kept.why == [KeptFor::JustAsked]));
    assert!(names(&folder).contains(&all[0].sha256.to_string()));
    let later = store.now().after(Duration::from_millis(1));
    let done = store.collect(Uses::new(), later, Mode::Remove).await.unwrap();
    assert!(removed(&done).contains(&all[0].sha256));
    assert_eq!(names(&folder).len(), 3);
    assert_eq!(mirror.requests(), 5);
    // Gone is gone, and comes again when it is wanted.
    get(&store, &all[0], None).await.unwrap();
    assert_eq!(mirror.requests(), 6);
}

/// One supervisor does not remove what the other one uses.
#[tokio::test]
async fn what_another_supervisor_uses_stays_until_it_is_gone() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let (store, all) = filled(&mirror, &folder, 5).await;
    let other = open(&folder);
    get(&other, &all[0], None).await.unwrap();
    let later = || store.now().after(Duration::from_millis(1));
    let report = store.collect(Uses::new(), later(), Mode::Remove).await.unwrap();
    assert_eq!(removed(&report), [all[1].sha256]);
    let kept = report.kept.iter().find(|kept| kept.sha256 == all[0].sha256).unwrap();
    assert_eq!(kept.why, [KeptFor::UsedElsewhere]);
    drop(other);
    let report = store.collect(Uses::new(), later(), Mode::Remove).await.unwrap();
    assert_eq!(removed(&report), [all[0].sha256]);
}

/// Neither sweeps what the other one has under way, and both may commit the same.
#[tokio::test]
async fn two_supervisors_fetch_the_same_and_sweep_at_the_same_time() {
    let (mirror, folder) = (Mirror::start().await, TempDir::new().unwrap());
    let bytes = vec![7u8; 2_000_000];
    let wanted = artifact(&bytes, &[mirror.body("/a", &bytes)]);
    for _ in 0..4 {
        let (one, other) = (open(&folder), open(&folder));
        let sweeps = async {
            for _ in 0..20 {
                collect::sweep(&RealDisk, &folder.path().join("store")).unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (one, other, ()) = tokio::join!(get(&one, &wanted, None), get(&other, &wanted, None), sweeps);
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one, other);
        assert_eq!(std::fs::read(&one.path).unwrap(), bytes);
        assert_eq!(names(&folder), [wanted.sha256.to_string()]);
        std::fs::remove_dir_all(one.path.parent().unwrap()).unwrap();
    }
}
