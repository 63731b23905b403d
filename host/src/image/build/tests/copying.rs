//! What COPY and ADD take, where they put it, and what they say when they cannot.

use std::fs;
use std::path::Path;

use super::Bench;

#[test]
fn targets_are_found_as_docker_finds_them() {
    let bench = Bench::new(&[("a.txt", "a"), ("b.txt", "b"), ("folder/x", "x"), ("folder/y/z", "z")]);
    for (steps, files) in [
        ("COPY a.txt /", vec!["a.txt=a"]),
        ("COPY a.txt /b.txt", vec!["b.txt=a"]),
        ("COPY a.txt /new/", vec!["new", "new/a.txt=a"]),
        ("COPY ./folder /", vec!["x=x", "y", "y/z=z"]),
        ("COPY folder/y/../x /x", vec!["x=x"]),
        ("COPY folder /f\nCOPY a.txt /f", vec!["f", "f/a.txt=a", "f/x=x", "f/y", "f/y/z=z"]),
        ("COPY *.txt folder/y /all/", vec!["all", "all/a.txt=a", "all/b.txt=b", "all/z=z"]),
        ("WORKDIR /w\nCOPY a.txt .", vec!["w", "w/a.txt=a"]),
        ("WORKDIR /w\nWORKDIR v\nCOPY a.txt ./c", vec!["w", "w/v", "w/v/c=a"]),
        ("COPY [\"a.txt\", \"b.txt\", \"/q/\"]", vec!["q", "q/a.txt=a", "q/b.txt=b"]),
        ("ENV N=9\nCOPY <<EOF <<'X' /h/\n$N\nEOF\n$N\nX", vec!["h", "h/EOF=9\n", "h/X=$N\n"]),
    ] {
        let (image, _) = bench.build(&format!("FROM scratch\n{steps}\n"));
        assert_eq!(bench.files(&image), files, "{steps}");
    }
}

#[test]
fn modes_are_the_ones_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new(&[]);
    let (image, _) = bench.build("FROM scratch\nCOPY --chown=1:1 --link app.wasm /a\nCOPY --chmod=700 app.wasm /b\n");
    let root = bench.images.rootfs(&image.id).unwrap();
    let mode = |path: &str| root.join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a"), mode("b")), (0o644, 0o700));
}

#[test]
fn what_cannot_be_copied_is_said_as_docker_says_it() {
    let bench = Bench::new(&[("a.txt", "a"), ("b.txt", "b"), ("secret", "s"), (".dockerignore", "secret\n")]);
    let absent = "COPY failed: file not found in build context or excluded by .dockerignore: stat";
    for (step, message) in [
        ("COPY x /", format!("{absent} x: file does not exist")),
        ("COPY /x/y /", format!("{absent} x/y: file does not exist")),
        ("COPY secret /", format!("{absent} secret: file does not exist")),
        ("COPY s* /", "COPY failed: no source files were specified".into()),
        ("ADD *.onnx /", "ADD failed: no source files were specified".into()),
        ("COPY ../x /", "COPY failed: forbidden path outside the build context: ../x ()".into()),
        (
            "COPY a.txt b.txt /x",
            "more than one source file, the destination must be a directory and end with a /".into(),
        ),
        ("COPY *.txt /x", "the destination must be a directory and end with a /".into()),
        ("COPY a.txt /f\nCOPY . /f", "cannot copy to non-directory: /f".into()),
        ("COPY --from=0 a.txt /", "invalid from flag value 0".into()),
        ("COPY --from=other a.txt /", "other:latest is not in the store".into()),
    ] {
        let text = bench.fails(&format!("FROM scratch\n{step}\n"));
        assert!(text.contains(&message), "{step}: {text}");
    }
    std::os::unix::fs::symlink("/etc", bench.context().join("out")).unwrap();
    assert!(bench.fails("FROM scratch\nCOPY out/passwd /\n").contains("forbidden path"));
    assert!(bench.images.list().unwrap().is_empty());
}

#[test]
fn what_is_ignored_takes_no_part() {
    let ignore = "Dockerfile\n.dockerignore\n*.md\nbuild\n!build/keep\n";
    let bench = Bench::new(&[(".dockerignore", ignore), ("a.md", ""), ("build/x", "x"), ("build/keep", "k")]);
    let (image, _) = bench.build("FROM scratch\nCOPY . /\n");
    assert_eq!(bench.files(&image), ["app.wasm", "build", "build/keep=k"]);
}

#[test]
fn archives_are_added_as_what_they_hold() {
    let bench = Bench::new(&[("plain.txt", "p")]);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o600);
    archive.append_data(&mut header, "inner/x", &b"in"[..]).unwrap();
    bench.write("a.tar", &archive.into_inner().unwrap());
    let (image, _) = bench.build("FROM scratch\nADD a.tar /a\nADD plain.txt /\nCOPY a.tar /b/\n");
    assert_eq!(bench.files(&image)[..4], ["a", "a/inner", "a/inner/x=in", "b"]);
    assert!(bench.files(&image).last().unwrap().starts_with("plain.txt=p"));
    assert!(bench.fails("FROM scratch\nADD https://example.com/x /\n").contains("ADD from a URL is not offered"));
}

#[test]
fn what_a_stage_lacks_cannot_be_copied_from_it() {
    let bench = Bench::new(&[("folder/a", "a")]);
    let start = "FROM scratch AS one\nCOPY folder /f\nFROM scratch\n";
    let text = bench.fails(&format!("{start}COPY --from=one /x /\n"));
    assert_eq!(text, "COPY failed: stat x: file does not exist");
    let (image, _) = bench.build(&format!("{start}COPY --from=one ../f/a /\n"));
    assert_eq!(bench.files(&image), ["a=a"]);
}

#[test]
fn links_stay_links_and_lead_where_they_led() {
    let bench = Bench::new(&[("folder/a", "a"), ("b", "b")]);
    std::os::unix::fs::symlink("a", bench.context().join("folder/link")).unwrap();
    std::os::unix::fs::symlink("folder", bench.context().join("current")).unwrap();
    let (image, _) = bench.build("FROM scratch\nCOPY . /all\nCOPY b /all/current\nCOPY current/link /c\n");
    let root = bench.images.rootfs(&image.id).unwrap();
    assert_eq!(fs::read_link(root.join("all/current")).unwrap(), Path::new("folder"));
    assert_eq!(fs::read_to_string(root.join("all/current/link")).unwrap(), "a");
    assert_eq!(fs::read_to_string(root.join("all/folder/b")).unwrap(), "b");
    assert!(root.join("c").symlink_metadata().unwrap().is_file());
}
