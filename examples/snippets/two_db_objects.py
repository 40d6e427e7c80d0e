"""Two SQLAlchemy objects in one process: two applications, or two halves of one."""

# start objects
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_dbkit import DBKit, transaction
from flask_dbkit.models import BaseMixin


class ShopBase(BaseMixin, DeclarativeBase): ...


class BlogBase(BaseMixin, DeclarativeBase): ...


shop_db = SQLAlchemy(model_class=ShopBase)
shop_kit = DBKit(db=shop_db)
blog_db = SQLAlchemy(model_class=BlogBase)
blog_kit = DBKit(db=blog_db)


class Item(ShopBase):
    id: Mapped[int] = mapped_column(primary_key=True)


class Post(BlogBase):
    id: Mapped[int] = mapped_column(primary_key=True)


# end objects


def check() -> None:
    shop, blog = Flask("shop"), Flask("blog")
    shop_kit.init_app(shop)
    blog_kit.init_app(blog)
    with shop.app_context():
        shop_db.create_all()
        with transaction():  # the scope of the application whose context this is
            shop_db.session.add(Item(id=1))
            with blog.app_context():
                blog_db.create_all()
                with transaction():
                    blog_db.session.add(Post(id=1))
        assert shop_db.session.get(Item, 1)
    with blog.app_context():
        assert blog_db.session.get(Post, 1)


if __name__ == "__main__":
    check()
