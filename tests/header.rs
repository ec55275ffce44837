//! `ztensor.h` is what cbindgen makes of `src/ffi`. `make header` writes it; without that, a difference fails.

use std::env;
use std::fs;
use std::path::Path;

/// The introduction, for a C programmer.
const INTRODUCTION: &str = include_str!("header_introduction.h");

fn generate(root: &Path) -> String {
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    config.header = Some(INTRODUCTION.trim_end().to_owned());
    config.include_guard = Some("ZTENSOR_H".to_owned());
    config.sys_includes = vec!["stddef.h".to_owned(), "stdint.h".to_owned()];
    config.cpp_compat = true;
    let mut header = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_crate(root)
        .generate()
        .expect("cbindgen understands src/ffi")
        .write(&mut header);
    String::from_utf8(header).expect("the header is UTF-8")
}

#[test]
fn header_is_in_sync() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("ztensor.h");
    let generated = generate(root);
    if env::var_os("ZTENSOR_WRITE_HEADER").is_some() {
        fs::write(&path, &generated).expect("ztensor.h can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "ztensor.h is not what src/ffi says: run `make header` and commit it");
}
