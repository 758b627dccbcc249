"""Hot loops compiled by numba, where it is installed: the same bits as maths/, which says what they mean"""
