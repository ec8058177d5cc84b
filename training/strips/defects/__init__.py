"""What each defect class may look like. Every drawing has its own shapes, so that the classes can be told apart.

Class 1: compact pits and specks. Class 2: fine vertical marks. Class 3: streaks, splashes, trails and scratches.
Class 4: rough patches and torn scale.
"""
