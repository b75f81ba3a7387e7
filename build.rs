//! Compiles the CUDA kernels for the host where their tests ask for it; otherwise does nothing.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "kernel-tests")]
    host_kernels::compile();
}

#[cfg(feature = "kernel-tests")]
mod host_kernels {
    /// `address` or `thread`: a build in which a sanitizer looks at every access of the kernels.
    const SANITIZER: &str = "KERNELS_SANITIZER";

    /// Compiles `kernels/` into one static library: the harness, which switches stacks and must not
    /// be instrumented, and the kernels themselves.
    pub fn compile() {
        println!("cargo::rerun-if-changed=kernels");
        println!("cargo::rerun-if-env-changed={SANITIZER}");
        let sanitizer = std::env::var(SANITIZER).unwrap_or_default();
        println!("cargo::rustc-env={SANITIZER}={sanitizer}");

        let harness = ["emulator", "fiber", "machine", "memory", "products", "proxy"];
        let mut build = compiler(&sanitizer);
        let mut objects = build.files(harness.map(source)).compile_intermediates();
        let mut build = compiler(&sanitizer);
        let (flags, runtimes): (&[&str], &[&str]) = match sanitizer.as_str() {
            "" => (&[], &[]),
            "address" => (
                &["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
                &["-lasan", "-lubsan"],
            ),
            "thread" => (&["-fsanitize=thread"], &["-ltsan"]),
            other => panic!("{SANITIZER}={other}: expected address or thread"),
        };
        build.flags(flags);
        objects.extend(build.files(["kernels", "planted"].map(source)).compile_intermediates());
        let mut library = compiler(&sanitizer);
        library.objects(objects).compile("kernels");
        // Every program of this package holds the library, so each needs the sanitizer's runtime.
        for runtime in runtimes {
            println!("cargo::rustc-link-arg={runtime}");
        }
    }

    fn source(name: &str) -> String {
        format!("kernels/host/{name}.cpp")
    }

    /// Contraction would fuse what the kernels round twice; variables that were never set hold a
    /// pattern, so that they are wrong every time.
    fn compiler(sanitizer: &str) -> cc::Build {
        let mut build = cc::Build::new();
        let level = if sanitizer.is_empty() { 2 } else { 1 }; // UBSan takes minutes on more
        build.cpp(true).std("c++20").opt_level(level).debug(true).warnings_into_errors(true);
        build.flags([
            "-Wall",
            "-Wextra",
            "-Wno-unknown-pragmas",
            "-Wno-psabi", // notes that other compilers pass tensor maps otherwise
            "-ffp-contract=off",
            "-fno-strict-aliasing",
        ]);
        build.flag("-ftrivial-auto-var-init=pattern");
        match sanitizer {
            "address" => build.define("KERNELS_ASAN", None),
            "thread" => build.define("KERNELS_TSAN", None),
            _ => &mut build,
        };
        build
    }
}
