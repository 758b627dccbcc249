"""Thirty-two float32 as one value: held in registers, not stored and loaded again for every task.

numba's loops are turned into vectors of the processor one loop at a time, and between two loops everything goes through
memory. LLVM splits these vectors into what the processor has: two of AVX-512, four of AVX2, eight of NEON.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

WIDTH = 32  # two registers of AVX-512 a value: 16 and 64 were some 7 % slower with eight tasks
PART = 8  # float64 in one register of AVX-512
FLOATS, BITS = ir.VectorType(ir.FloatType(), WIDTH), ir.VectorType(ir.IntType(32), WIDTH)
DOUBLES = ir.VectorType(ir.DoubleType(), PART)


class Lanes(types.Type):
    """The type of such a value, to numba."""

    def __init__(self):
        super().__init__("Lanes")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, FLOATS)


LANES = Lanes()


def _same(value, kind=FLOATS):
    return ir.Constant(kind, [value] * kind.count)


def _at(builder, address, kind):
    return builder.inttoptr(address, kind.as_pointer())


def _part(builder, value, q):
    places = ir.Constant(ir.VectorType(ir.IntType(32), PART), list(range(PART * q, PART * (q + 1))))
    return builder.shuffle_vector(value, value, places)


def _unary(build):
    @intrinsic
    def operation(typing, x):
        return LANES(x), lambda context, builder, signature, arguments: build(builder, *arguments)

    return operation


def _binary(build):
    @intrinsic
    def operation(typing, x, y):
        return LANES(x, y), lambda context, builder, signature, arguments: build(builder, *arguments)

    return operation


def _spread(builder, value):
    one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, _same(0, BITS))


def _sign(builder, total, tie):
    negative = builder.select(builder.fcmp_ordered("<", total, _same(0.0)), _same(-1.0), tie)
    return builder.select(builder.fcmp_ordered(">", total, _same(0.0)), _same(1.0), negative)


fetch = _unary(lambda builder, address: builder.load(_at(builder, address, FLOATS), align=4))  # from an address
spread = _unary(_spread)  # one float32 in all lanes
plus = _binary(lambda builder, x, y: builder.fadd(x, y))
minus = _binary(lambda builder, x, y: builder.fsub(x, y))
times = _binary(lambda builder, x, y: builder.fmul(x, y))
larger = _binary(lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))  # y of two zeros
smaller = _binary(lambda builder, x, y: builder.select(builder.fcmp_ordered("<", x, y), x, y))
sign_of = _binary(_sign)  # 1, -1, or where x is 0 what y is


def _doubled(builder, value):
    """Twice the bits: without their sign, and as unsigned integers in the order of the magnitudes."""
    bits = builder.bitcast(value, BITS)
    return builder.add(bits, bits)


def _most(builder, x, y):
    return builder.bitcast(builder.select(builder.icmp_unsigned(">", x, y), x, y), FLOATS)


# As unsigned integers, in the lanes' bits: the largest so far of twice the bits of |x|, and of what is missing to 2^32,
# which the smallest |x| that is not 0 has the most of. A NaN is larger than all numbers.
farthest = _binary(lambda builder, x, y: _most(builder, _doubled(builder, x), builder.bitcast(y, BITS)))
nearest = _binary(lambda builder, x, y: _most(builder, builder.neg(_doubled(builder, x)), builder.bitcast(y, BITS)))


@intrinsic
def put(typing, address, value):
    """Stores a value at an address."""

    def build(context, builder, signature, arguments):
        builder.store(arguments[1], _at(builder, arguments[0], FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(address, value), build


@intrinsic
def add_sizes(typing, address, value):
    """Adds magnitudes, lane upon lane, to eight float64 at an address."""

    def build(context, builder, signature, arguments):
        place = _at(builder, arguments[0], DOUBLES)
        bits = builder.and_(builder.bitcast(arguments[1], BITS), _same(0x7FFFFFFF, BITS))
        sizes = builder.bitcast(bits, FLOATS)
        total = builder.load(place, align=8)
        parts = [builder.fpext(_part(builder, sizes, q), DOUBLES) for q in range(WIDTH // PART)]
        while len(parts) > 1:
            parts = [builder.fadd(x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        builder.store(builder.fadd(total, parts[0]), place, align=8)
        return context.get_dummy_value()

    return types.void(address, value), build


@intrinsic
def add_where(typing, address, pull, value, bits):
    """Adds those of `value` where `pull` is above 0 to eight float64 at an address; which ones, to the address `bits`."""

    def build(context, builder, signature, arguments):
        address, pull, value, bits = arguments
        above, word = builder.fcmp_ordered(">", pull, _same(0.0)), ir.IntType(WIDTH)
        builder.store(builder.bitcast(above, word), _at(builder, bits, word), align=1)
        place = _at(builder, address, DOUBLES)
        totals = [builder.load(place, align=8), _same(0.0, DOUBLES)]
        for q in range(WIDTH // PART):
            more = builder.fadd(totals[q % 2], builder.fpext(_part(builder, value, q), DOUBLES))
            totals[q % 2] = builder.select(_part(builder, above, q), more, totals[q % 2])
        builder.store(builder.fadd(*totals), place, align=8)
        return context.get_dummy_value()

    return types.void(address, pull, value, bits), build
