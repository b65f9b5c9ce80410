"""NAME → "module:Class". A method is imported only when it runs; one line a method and nothing else changes."""

METHODS = {
    "dense": "espalier.methods.dense:Dense",
    "random": "espalier.methods.random:Random",
    "magnitude": "espalier.methods.magnitude:Magnitude",
    "movement": "espalier.methods.movement:Movement",
    "distil": "espalier.methods.distil:Distil",
    "sdp": "espalier.methods.sdp:Sdp",
    "spd": "espalier.methods.spd:Spd",
    "l0": "espalier.methods.cofi:L0",
    "cofi": "espalier.methods.cofi:Cofi",
    "heads": "espalier.methods.heads:Heads",
    "small-dense": "espalier.methods.small_dense:SmallDense",
    "homodistil": "espalier.methods.homodistil:Homodistil",
    "specialise": "espalier.methods.specialise:Specialise",
}
