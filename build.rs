//! Compiles the CUDA kernels: for GPUs where the program is to run on them, for the host where
//! their tests ask for it; otherwise does nothing.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    gpu_kernels::compile();
    #[cfg(feature = "kernel-tests")]
    host_kernels::compile();
}

#[cfg(feature = "cuda")]
mod gpu_kernels {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// Names the compiler; else it is looked for.
    const NVCC: &str = "NVCC";

    /// Compiles `kernels/` into one fatbin, and the tests' probes into another: machine code for
    /// sm_80 and sm_90a, PTX for later chips. `make kernels` does the same and checks the result.
    pub fn compile() {
        println!("cargo::rerun-if-changed=kernels");
        println!("cargo::rerun-if-env-changed={NVCC}");
        fatbin("kernels/all.cu", "kernels.fatbin");
        if cfg!(feature = "kernel-tests") {
            fatbin("kernels/probes/all.cu", "probes.fatbin");
        }
    }

    fn fatbin(source: &str, name: &str) {
        let out = PathBuf::from(std::env::var("OUT_DIR").unwrap()).join(name);
        let nvcc = compiler();
        let status = Command::new(&nvcc)
            .args(["-std=c++17", "-fmad=false", "-fatbin"])
            .args(["-gencode", "arch=compute_80,code=[sm_80,compute_80]"])
            .args(["-gencode", "arch=compute_90a,code=sm_90a"])
            .arg("-o")
            .arg(&out)
            .arg(source)
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => panic!("{} ended with {status}", nvcc.display()),
            Err(error) => panic!(
                "{}: {error}: CUDA's compiler is wanted; `make cuda-toolkit` fetches it",
                nvcc.display()
            ),
        }
    }

    /// `$NVCC`, or what `make cuda-toolkit` fetched, or what the machine has.
    fn compiler() -> PathBuf {
        if let Some(named) = std::env::var_os(NVCC) {
            return named.into();
        }
        let versions = std::fs::read_dir("target/cuda/venv/lib").into_iter().flatten().flatten();
        let fetched =
            versions.map(|version| version.path().join("site-packages/nvidia/cu13/bin/nvcc"));
        let usual = Path::new("/usr/local/cuda/bin/nvcc").to_path_buf();
        let mut found = fetched.chain([usual]).filter(|path| path.exists());
        found.next().unwrap_or_else(|| "nvcc".into())
    }
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
        let sources = ["kernels", "planted", "probes"].map(source);
        objects.extend(build.files(sources).compile_intermediates());
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
