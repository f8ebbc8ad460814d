//! Compiles the plain C and links the libraries of the Debian packages.

fn main() {
    println!("cargo::rerun-if-changed=c");
    cc::Build::new().file("c/plain.c").opt_level(3).flag("-march=native").compile("plain");
    cc::Build::new().file("c/libraries.c").opt_level(2).compile("libraries");
    for library in ["yuv", "speexdsp", "swresample", "avutil", "srtp2"] {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}
